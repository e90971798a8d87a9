"""Read a config from YAML, apply overrides, and say every fault at once: the dotted key, the value got, the cure."""

import difflib
from collections.abc import Mapping, Sequence
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


def load_config(path: Path, *, overrides: Sequence[str] = (), run_name: str | None = None) -> RunConfig:
    """Read and check a config.

    Args:
        path: a YAML file, or the name of a shipped config; with ``extends: other.yaml``, what it says is laid over that
            file's.
        overrides: ``dotted.key=value`` each, the value read as YAML; a number in the key is a position in a list.
        run_name: replaces the config's own.

    Raises:
        ConfigError: naming every fault found, or that overrides name the run otherwise.
    """
    data = _read_with_overrides(path, overrides)
    if run_name is not None:
        named = [override for override in overrides if override.partition("=")[0].strip() == "run_name"]
        if named and data["run_name"] != run_name:
            raise ConfigError(f"the run is named twice: '{run_name}', and '{named[-1]}' in overrides; name it once")
        data["run_name"] = run_name
    return _validated(RunConfig, data, path)


def load_masking(path: Path, *, overrides: Sequence[str] = ()) -> MaskingFile:
    """Read and check the section ``masking`` of a run's config, or of a file that has no more than it and ``execution``.

    Raises:
        ConfigError: naming every fault found, or that there is no such section.
    """
    data = _read_with_overrides(path, overrides)
    if set(data) <= set(MaskingFile.model_fields):
        return _validated(MaskingFile, data, path)
    config = _validated(RunConfig, data, path)
    if not config.masking:
        raise ConfigError(f"{path}: no section 'masking'; docs/masking.md shows what it says")
    return MaskingFile(masking=config.masked_sets, execution=config.execution)


def _read_with_overrides(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    data = _read_yaml(find_config(path))
    faults = [fault for override in overrides if (fault := _apply(data, override))]
    if faults:
        raise ConfigError(list_of_faults(f"{len(faults)} of {len(overrides)} overrides cannot be used", faults))
    return data


def _validated(schema: type[_Schema], data: dict[str, Any], path: Path) -> _Schema:
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        found = [details for details in error.errors(include_url=False) if not _only_seems_short(details)]
        described = [_describe(details, data, schema) for details in found]
        faults = [fault for one in described for fault in one.split("\n")]  # one check may find several
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        raise ConfigError(list_of_faults(f"{path}: {count}", faults)) from None


def dump_config(config: RunConfig) -> str:
    """Write a config as YAML that `load_config` reads back to an equal one."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read_yaml(path: Path, *, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file and, under it, the one that it `extends` (relative to it), if any."""
    if path.resolve() in above:
        raise ConfigError(f"{path}: extends itself, by way of {', '.join(other.name for other in above)}")
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
    return _laid_over(_read_yaml(find_config(Path(base), folder=path.parent), above=(*above, path.resolve())), data)


def _laid_over(base: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Lay a mapping over another, section by section; one of another `type` takes the whole section's place."""
    merged = dict(base)
    for key, value in data.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and value.get("type") in (None, below.get("type")):
            merged[key] = _laid_over(below, value)
        else:
            merged[key] = value
    return merged


def _apply(data: dict[str, Any], override: str) -> str | None:
    """Set one dotted key in place; return the fault, if any. Whether the key exists is for the schema to say."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        return f"'{override}': expected dotted.key=value, as in teacher.training.epochs=5"
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return f"'{override}': the value is not YAML; quote it if it is text"
    *parents, last = key.split(".")
    at: Any = data
    for part in parents:
        child = _child(at, part)
        if child is None:
            if not isinstance(at, dict):
                return f"'{override}': there is no '{part}' to set a value in"
            child = at.setdefault(part, {})
        at = child
    if isinstance(at, list) and last.isdigit() and int(last) < len(at):
        at[int(last)] = value
    elif isinstance(at, dict):
        at[last] = value
    else:
        return f"'{override}': there is no '{last}' to set in {_shorten(at)}"
    return None


def _child(at: Any, part: Any) -> Any:
    if isinstance(at, dict):
        return at.get(part)
    if isinstance(at, list | tuple) and str(part).isdigit() and int(part) < len(at):
        return at[int(part)]
    return None


_RENAMED_KEYS = {
    "bin_edges": "borders",
    "drop_near_bin_edges": "drop_near_borders",
    "fixmatch": "consistency",
    "labeled_fraction": "human_share",
    "max_share_ratio": "flooded_above",
    "min_share_ratio": "starved_below",
    "randaugment": "strong",
    "worse_than_chance": "worse_than_majority",
}
"""Key → its name in an earlier release."""
_RENAMED_TYPES = {"ensemble_agreement": "agreement", "precision_guarantee": "promised_precision"}
"""Value of a `type` → its name in an earlier release."""


# Pydantic's faults of type and of parsing, int_parsing and float_type say, by their first word.
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def _only_seems_short(details: ErrorDetails) -> bool:
    """Whether a list is long enough, and pydantic counts those of its items alone that have no fault of their own."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _describe(details: ErrorDetails, data: dict[str, Any], schema: type[BaseModel]) -> str:
    """Word one fault as ``'dotted.key': what is wrong, got …``."""
    location = _without_tags(details["loc"], data)
    key = ".".join(str(part) for part in location)
    got = _shorten(details["input"])
    match details["type"]:
        case "extra_forbidden":
            return _describe_unknown_key(key, location, data, schema)
        case "missing":
            return f"'{key}': missing; it has no default"
        case "union_tag_not_found":
            names = [tag for model in _models_at(location, data, schema) for tag in _tags(model)]
            return f"'{key}': missing 'type'; expected one of {names}, got {got}"
        case "union_tag_invalid":
            return _describe_unknown_type(key, details["ctx"])
        case "value_error":
            message = str(details["ctx"]["error"])
            return f"'{key}': {message}" if key else message
        case "literal_error":
            return f"'{key}': expected {details['ctx']['expected']}, got {got}"
        case "string_type":
            return f"'{key}': expected text, got {got}; quote it"
        case fault if fault.partition("_")[0] in _KINDS:
            return f"'{key}': expected {_KINDS[fault.partition('_')[0]]}, got {got}"
        case "string_pattern_mismatch":
            return f"'{key}': expected a name like {details['ctx']['pattern']}, got {got}"
        case _:
            return f"'{key}': {_expected(details)}, got {got}"


def _describe_unknown_key(
    key: str, location: Sequence[str | int], data: dict[str, Any], schema: type[BaseModel]
) -> str:
    renamed = [new for new, old in _RENAMED_KEYS.items() if old == location[-1]]
    if renamed and renamed[0] in _field_names(location[:-1], data, schema):
        return f"'{key}' is now called '{renamed[0]}'"
    return f"unknown key '{key}'{_suggestion(str(location[-1]), location[:-1], data, schema)}"


def _describe_unknown_type(key: str, context: Mapping[str, Any]) -> str:
    names, tag = [name.strip(" '") for name in str(context["expected_tags"]).split(",")], context["tag"]
    if renamed := [name for name in names if _RENAMED_TYPES.get(name) == tag]:
        return f"'{key}.type': '{tag}' is now called '{renamed[0]}'"
    return f"'{key}.type': expected one of {names}, got '{tag}'{_did_you_mean(tag, names)}"


def _expected(details: ErrorDetails) -> str:
    if details["type"] == "too_short":
        return f"expected at least {details['ctx']['min_length']} of them"
    return details["msg"].replace("Input should be", "expected")


def _without_tags(location: Sequence[str | int], data: dict[str, Any]) -> list[str | int]:
    """Drop what pydantic adds to a location for the member of a union: it is no key of the file."""
    kept: list[str | int] = []
    at: Any = data
    for position, part in enumerate(location):
        child = _child(at, part)
        last = position == len(location) - 1
        if isinstance(at, Mapping) and part not in at and (not last or part == at.get("type")):
            continue
        kept.append(part)
        at = child
    return kept


def _suggestion(key: str, parents: Sequence[str | int], data: dict[str, Any], schema: type[BaseModel]) -> str:
    names = _field_names(parents, data, schema)
    return _did_you_mean(key, names) or (f"; known here: {', '.join(names)}" if names else "")


def _did_you_mean(key: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _field_names(parents: Sequence[str | int], data: dict[str, Any], schema: type[BaseModel]) -> list[str]:
    """The keys that the section at `parents` knows."""
    return [name for model in _models_at(parents, data, schema) for name in model.model_fields]


def _models_at(location: Sequence[str | int], data: dict[str, Any], schema: type[BaseModel]) -> list[type[BaseModel]]:
    """What the section at `location` may be: one, or of a union all that its `type` leaves."""
    models: list[type[BaseModel]] = [schema]
    at: Any = data
    for part in location:
        at = _child(at, part)
        if isinstance(part, str):
            models = [
                member
                for model in models
                if part in model.model_fields
                for member in _models_in(model.model_fields[part].annotation)
            ]
        tag = at.get("type") if isinstance(at, dict) else None
        if tag is not None:
            models = [model for model in models if tag in _tags(model)] or models
    return models


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    return get_args(model.model_fields["type"].annotation) if "type" in model.model_fields else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, list):
        return [model for argument in get_args(annotation) for model in _models_in(argument)]
    return []


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
