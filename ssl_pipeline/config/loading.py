"""Loading a config: YAML, `extends`, overrides, and one message that lists every fault with its key, value and cure."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ssl_pipeline.config.masking import MaskingFile
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.config.shipped import find_config
from ssl_pipeline.errors import ConfigError, list_of_faults

_Schema = TypeVar("_Schema", bound=BaseModel)

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
_RENAMED_TYPES = {"agreement": "ensemble_agreement", "promised_precision": "precision_guarantee"}
"""A value of `type` in an earlier release → its name now."""

_TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false"}
"""First word of pydantic's error type, e.g. of int_parsing or float_type → what was expected."""


def load_config(path: Path, *, overrides: Sequence[str] = (), run_name: str | None = None) -> RunConfig:
    """Read and check a config.

    Args:
        path: a YAML file, or the name of a shipped config. With ``extends: other.yaml`` it is merged into that file.
        overrides: ``dotted.key=value`` each, the value in YAML; a number in the key is a position in a list.
        run_name: replaces the config's own.

    Raises:
        ConfigError: listing every fault, or if the overrides give the run another name than `run_name`.
    """
    data = _read_with_overrides(path, overrides)
    if run_name is not None:
        name_overrides = [override for override in overrides if override.partition("=")[0].strip() == "run_name"]
        if name_overrides and data["run_name"] != run_name:
            raise ConfigError(
                f"the run is named twice: '{run_name}', and '{name_overrides[-1]}' in overrides; name it once"
            )
        data["run_name"] = run_name
    return _validate(RunConfig, data, path)


def load_masking(path: Path, *, overrides: Sequence[str] = ()) -> MaskingFile:
    """Read and check the section ``masking`` of a run's config, or a file with only ``masking`` and ``execution``.

    Raises:
        ConfigError: listing every fault, or if there is no such section.
    """
    data = _read_with_overrides(path, overrides)
    if set(data) <= set(MaskingFile.model_fields):
        return _validate(MaskingFile, data, path)
    config = _validate(RunConfig, data, path)
    if not config.masking:
        raise ConfigError(f"{path}: no section 'masking'; docs/masking.md shows one")
    return MaskingFile(masking=config.masked_sets, execution=config.execution)


def dump_config(config: RunConfig) -> str:
    """Return the config as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_with_overrides(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    data = _read_yaml(find_config(path))
    faults = [fault for override in overrides if (fault := _apply(data, override))]
    if faults:
        raise ConfigError(list_of_faults(f"{len(faults)} of {len(overrides)} overrides cannot be used", faults))
    return data


def _validate(schema: type[_Schema], data: dict[str, Any], path: Path) -> _Schema:
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        errors = [details for details in error.errors(include_url=False) if not _only_seems_short(details)]
        faults = [fault for details in errors for fault in _describe(details, schema).split("\n")]
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        raise ConfigError(list_of_faults(f"{path}: {count}", faults)) from None


def _read_yaml(path: Path, *, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file, merged into the one that it `extends` (a path relative to it), if any."""
    if path.resolve() in extended_by:
        raise ConfigError(f"{path}: extends itself, through {', '.join(other.name for other in extended_by)}")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected sections such as 'labels:' and 'faces:', got {_shorten(data)}")
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str):
        raise ConfigError(
            f"{path}: 'extends': expected the path of a config, relative to this one, got {_shorten(base)}"
        )
    return _merge(
        _read_yaml(find_config(Path(base), folder=path.parent), extended_by=(*extended_by, path.resolve())), data
    )


def _merge(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Merge `data` into `base`, section by section; a section with another `type` replaces the whole section."""
    merged = dict(base)
    for key, value in data.items():
        section = base.get(key)
        if isinstance(value, dict) and isinstance(section, dict) and value.get("type") in (None, section.get("type")):
            merged[key] = _merge(section, value)
        else:
            merged[key] = value
    return merged


def _apply(data: dict[str, Any], override: str) -> str | None:
    """Set one dotted key in place; return the fault, if any. The schema checks later whether the key exists."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        return f"'{override}': expected dotted.key=value, e.g. teacher.training.epochs=5"
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return f"'{override}': the value is not YAML; quote it if it is text"
    *parents, last = key.split(".")
    section: Any = data
    for part in parents:
        child = _child(section, part)
        if child is None:
            if not isinstance(section, dict):
                return f"'{override}': there is no '{part}' to set a value in"
            child = section.setdefault(part, {})
        section = child
    if isinstance(section, list) and last.isdigit() and int(last) < len(section):
        section[int(last)] = value
    elif isinstance(section, dict):
        section[last] = value
    else:
        return f"'{override}': there is no '{last}' to set in {_shorten(section)}"
    return None


def _child(section: Any, part: str) -> Any:
    if isinstance(section, dict):
        return section.get(part)
    if isinstance(section, list) and part.isdigit() and int(part) < len(section):
        return section[int(part)]
    return None


def _only_seems_short(details: ErrorDetails) -> bool:
    """Whether a list is long enough: pydantic counts only its valid items, and reports the others by themselves."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _describe(details: ErrorDetails, schema: type[BaseModel]) -> str:
    """Describe one fault as ``'dotted.key': what is wrong, got …``."""
    parts, sections = _resolve(details["loc"], schema)
    key = ".".join(str(part) for part in parts)
    got = _shorten(details["input"])
    match details["type"]:
        case "extra_forbidden":
            return _describe_unknown_key(key, schema, details["loc"])
        case "missing":
            return f"'{key}': missing; it has no default"
        case "union_tag_not_found":
            names = [tag for section in sections for tag in _type_values(section)]
            return f"'{key}': missing 'type'; expected one of {names}, got {got}"
        case "union_tag_invalid":
            return _describe_unknown_type(key, str(details["ctx"]["tag"]), str(details["ctx"]["expected_tags"]))
        case "value_error":
            message = str(details["ctx"]["error"])
            return f"'{key}': {message}" if key else message
        case "string_type":
            return f"'{key}': expected text, got {got}; quote it"
        case _:
            return f"'{key}': {_expected(details)}, got {got}"


def _expected(details: ErrorDetails) -> str:
    match details["type"]:
        case "literal_error":
            return f"expected {details['ctx']['expected']}"
        case "string_pattern_mismatch":
            return f"expected a name like {details['ctx']['pattern']}"
        case "too_short":
            return f"expected at least {details['ctx']['min_length']} of them"
        case fault if (first_word := fault.partition("_")[0]) in _TYPE_NAMES:
            return f"expected {_TYPE_NAMES[first_word]}"
        case _:
            return details["msg"].replace("Input should be", "expected")


def _describe_unknown_key(key: str, schema: type[BaseModel], location: Sequence[str | int]) -> str:
    _, sections = _resolve(location[:-1], schema)
    known, name = [field for section in sections for field in section.model_fields], str(location[-1])
    if _RENAMED_KEYS.get(name) in known:
        return f"'{key}' is now called '{_RENAMED_KEYS[name]}'"
    hint = _did_you_mean(name, known) or (f"; known here: {', '.join(known)}" if known else "")
    return f"unknown key '{key}'{hint}"


def _describe_unknown_type(key: str, tag: str, expected_tags: str) -> str:
    names = [name.strip(" '") for name in expected_tags.split(",")]
    if _RENAMED_TYPES.get(tag) in names:
        return f"'{key}.type': '{tag}' is now called '{_RENAMED_TYPES[tag]}'"
    return f"'{key}.type': expected one of {names}, got '{tag}'{_did_you_mean(tag, names)}"


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _resolve(location: Sequence[str | int], schema: type[BaseModel]) -> tuple[list[str | int], list[type[BaseModel]]]:
    """Follow an error's location to its keys, without the union members that pydantic inserts, and to the sections there."""
    keys: list[str | int] = []
    sections: list[type[BaseModel]] = [schema]
    for part in location:
        if len(sections) > 1 and (chosen := [section for section in sections if part in _type_values(section)]):
            sections = chosen
        elif "[" not in str(part):  # else a union member, e.g. dict[str,float]
            keys.append(part)
            if isinstance(part, str):
                fields = [section.model_fields[part] for section in sections if part in section.model_fields]
                sections = [member for field in fields for member in _sections_in(field.annotation)]
    return keys, sections


def _type_values(section: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(section.model_fields["type"].annotation) if "type" in section.model_fields else ()


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, list):
        return [section for argument in get_args(annotation) for section in _sections_in(argument)]
    return []


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
