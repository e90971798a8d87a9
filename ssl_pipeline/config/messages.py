"""Faults of a config in words: key, what was expected, what was given, and the cure as ``--set key=value``."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ssl_pipeline.config.base import PATTERNS
from ssl_pipeline.config.schema import dotted_key, is_union_member, resolve, type_values
from ssl_pipeline.config.yaml_text import YamlError, read_yaml
from ssl_pipeline.errors import shorten

_RENAMED_KEYS = {
    "borders": "bin_edges",
    "consistency": "fixmatch",
    "drop_near_borders": "drop_near_bin_edges",
    "flooded_above": "max_share_ratio",
    "human_share": "labeled_fraction",
    "min_faces": "min_persons",
    "starved_below": "min_share_ratio",
    "strong": "randaugment",
    "worse_than_majority": "worse_than_chance",
}
"""A key of an earlier release → its name now."""
_REMOVED_KEYS = {"num_workers": "faces are read ahead by a thread and augmented in batches"}
"""A key of an earlier release → what made it needless."""
_RENAMED_TYPES = {"agreement": "ensemble_agreement", "promised_precision": "precision_guarantee"}
"""A value of `type` in an earlier release → its name now."""

_TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text"}
"""First word of pydantic's error type, e.g. of int_parsing or float_type → what was expected."""


def describe_faults(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """Describe what pydantic found as ``'dotted.key': what is wrong, got …; cure``.

    A validator of a section writes its cures relative to the section, e.g. ``--set epochs=5``, and one of a single key
    writes ``--set =5``; here they get the whole key.
    """
    by_key: dict[str, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        if not _only_seems_short(details):
            by_key.setdefault(dotted_key(details["loc"], schema), []).append(details)
    faults: list[str] = []
    for key, errors in by_key.items():
        if any(is_union_member(details["loc"][-1]) for details in errors if details["loc"]):
            if not any(other.startswith(f"{key}.") for other in by_key):  # else the inner fault says more
                faults.append(_describe_no_member(key, errors))
        else:
            faults += [fault for details in errors for fault in _describe(details, schema).split("\n")]
    return faults


def _only_seems_short(details: ErrorDetails) -> bool:
    """Whether a list is long enough: pydantic counts only its valid items, and reports the others by themselves."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _describe(details: ErrorDetails, schema: type[BaseModel]) -> str:
    """Describe one fault as ``'dotted.key': what is wrong, got …``."""
    key, sections = dotted_key(details["loc"], schema), resolve(details["loc"], schema)[1]
    match details["type"]:
        case "extra_forbidden":
            return _describe_unknown_key(key, schema, details["loc"])
        case "missing":
            return f"'{key}': missing; it has no default"
        case "union_tag_not_found":
            return _describe_missing_type(key, details["input"], sections)
        case "union_tag_invalid":
            return _describe_unknown_type(key, str(details["ctx"]["tag"]), str(details["ctx"]["expected_tags"]))
        case "value_error":
            message = str(details["ctx"]["error"])
            return f"'{key}': {with_whole_keys(message, key)}" if key else message
        case "model_attributes_type" | "model_type" | "dict_type" if sections:
            return _describe_no_section(key, details["input"], sections)
        case "string_type" if details["input"] is None:
            return f"'{key}': expected text, got nothing"
        case "string_type":
            return f"'{key}': expected text, got {shorten(details['input'])}; quote it"
        case _:
            return f"'{key}': expected {_expected(details)}, got {shorten(details['input'])}"


def with_whole_keys(message: str, key: str) -> str:
    """Put a section's key in front of its cures; ``--set =5`` sets the section itself, ``--set /seed=5`` has the whole key.

    >>> with_whole_keys("--set epochs=5 or --set /seed=1", "teacher.training")
    '--set teacher.training.epochs=5 or --set seed=1'
    """

    def whole(start: re.Match[str]) -> str:
        quote, is_whole, is_section = start.groups()
        return f"--set {quote}{'' if is_whole else key}{'' if is_whole else is_section or '.'}"

    return re.sub(r"--set ('?)(/?)(=?)", whole, message)


def _describe_no_member(key: str, errors: Sequence[ErrorDetails]) -> str:
    """Describe a value that is of none of the types that its key may have."""
    expected = dict.fromkeys(_expected(details) for details in errors)
    return f"'{key}': expected {' or '.join(expected)}, got {shorten(errors[0]['input'])}"


def _expected(details: ErrorDetails) -> str:
    match details["type"]:
        case "literal_error":
            return str(details["ctx"]["expected"])
        case "string_pattern_mismatch":
            return PATTERNS[details["ctx"]["pattern"]]
        case "too_short":
            return f"at least {details['ctx']['min_length']} of them"
        case "tuple_type":
            return "a list, e.g. [first, second]"
        case "dict_type":
            return "keys with values, e.g. {key: value}"
        case "finite_number":
            return "a finite number"
        case fault if (first_word := fault.partition("_")[0]) in _TYPE_NAMES:
            return f"{_TYPE_NAMES[first_word]}{_without_quotes(details['input'], first_word)}"
        case _:
            return details["msg"].replace("Input should be ", "")


def _without_quotes(value: Any, type_name: str) -> str:
    """Add a cure if a number, or true or false, was given as text."""
    types = {"int": (int,), "float": (int, float), "bool": (bool,)}.get(type_name, ())
    try:
        return " without quotes" if isinstance(value, str) and type(read_yaml(value)) in types else ""
    except YamlError:
        return ""


def _describe_missing_type(key: str, value: Any, sections: Sequence[type[BaseModel]]) -> str:
    names = [tag for section in sections for tag in type_values(section)]
    keys = value.keys() if isinstance(value, dict) else set()
    fitting = [tag for section in sections if keys <= section.model_fields.keys() for tag in type_values(section)]
    cure = f"; e.g. --set {key}.type={fitting[0]}" if fitting and keys else ""
    return f"'{key}': missing 'type'; expected one of {names}, got {shorten(value)}{cure}"


def _describe_no_section(key: str, value: Any, sections: Sequence[type[BaseModel]]) -> str:
    """Describe a text, number or list where a section is expected."""
    names = [str(tag) for section in sections for tag in type_values(section)]
    if not names:
        return f"'{key}': expected keys with values, got {shorten(value)}; known here: {', '.join(sections[0].model_fields)}"
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.6)
    cure = f"; --set '{key}={{type: {close[0]}}}'" if close else ""
    return f"'{key}': expected keys with values, among them 'type', one of {names}, got {shorten(value)}{cure}"


def _describe_unknown_key(key: str, schema: type[BaseModel], location: Sequence[str | int]) -> str:
    _, sections = resolve(location[:-1], schema)
    known, name = [field for section in sections for field in section.model_fields], str(location[-1])
    if _RENAMED_KEYS.get(name) in known:
        return f"'{key}' is now called '{_RENAMED_KEYS[name]}'"
    if name in _REMOVED_KEYS:
        return f"'{key}' is no longer needed, since {_REMOVED_KEYS[name]}; leave it out"
    for other in _other_types(location[:-1], schema):
        if name in other.model_fields:
            tag = type_values(other)[0]
            return f"unknown key '{key}'; {tag} has it: --set {dotted_key(location[:-1], schema)}.type={tag}"
    hint = _did_you_mean(name, known) or (f"; known here: {', '.join(known)}" if known else "")
    return f"unknown key '{key}'{hint}"


def _other_types(location: Sequence[str | int], schema: type[BaseModel]) -> list[type[BaseModel]]:
    """Return all members of the union, if a location ends in the type of one."""
    members = resolve(location[:-1], schema)[1] if location else []
    return members if any(location[-1] in type_values(member) for member in members) else []


def _describe_unknown_type(key: str, tag: str, expected_tags: str) -> str:
    names = [name.strip(" '") for name in expected_tags.split(",")]
    if _RENAMED_TYPES.get(tag) in names:
        return f"'{key}.type': '{tag}' is now called '{_RENAMED_TYPES[tag]}'"
    return f"'{key}.type': expected one of {names}, got '{tag}'{_did_you_mean(tag, names)}"


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
