"""Overrides of a config: ``dotted.key=value``, set in the plain values that a file gave."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from ssl_pipeline.config.schema import default_at, sections_at, type_values
from ssl_pipeline.config.yaml_text import YamlError, read_yaml
from ssl_pipeline.errors import ConfigError, list_of_faults, shorten


def apply_overrides(data: dict[str, Any], overrides: Sequence[str], schema: type[BaseModel]) -> None:
    """Set each override's key in place; the schema's validation checks later whether the key exists.

    A section that the file leaves out starts from its default. Another `type` of a section drops the keys that only the
    former type has, unless an override set them; the order of the overrides does not matter, but the last of two values
    for one key counts.

    Args:
        data: plain values of a config.
        overrides: ``dotted.key=value`` each, the value in YAML; a number in the key is a position in a list.
        schema: of the config.

    Raises:
        ConfigError: listing every override that cannot be set.
    """
    given = {override.partition("=")[0].strip() for override in overrides}
    faults = [fault for override in overrides if (fault := _apply(data, override, schema, given))]
    if faults:
        raise ConfigError(list_of_faults(f"{len(faults)} of {len(overrides)} overrides cannot be used", faults))


def _apply(data: dict[str, Any], override: str, schema: type[BaseModel], given: set[str]) -> str | None:
    """Set one key; return the fault, if any."""
    key, equals, text = override.partition("=")
    *parents, last = key.strip().split(".")
    if not equals or not all([*parents, last]):
        return f"'{override}': expected dotted.key=value, e.g. --set teacher.training.epochs=5"
    try:
        value = read_yaml(text)
    except YamlError as error:
        return f"'{override}': {error}"
    section: Any = data
    members: Sequence[type[BaseModel]] = [schema]
    for part in parents:
        chosen = _of_its_type(section, members)
        child = _child(section, part, chosen)
        if child is None:
            return f"'{override}': there is no '{part}' to set a value in"
        section, members = child, (members if isinstance(section, list) else sections_at(part, chosen))
    if isinstance(section, list) and last.isdigit() and int(last) < len(section):
        section[int(last)] = value
    elif isinstance(section, dict):
        if last == "type":
            kept = {name for name in section if _is_set_by(".".join([*parents, name]), given)}
            _drop_keys_of_former_type(section, value, members, kept)
        section[last] = value
    else:
        return f"'{override}': there is no '{last}' to set in {shorten(section)}"
    return None


def _child(section: Any, part: str, sections: Sequence[type[BaseModel]]) -> Any:
    """Return what stands at a key or position; a key that is absent or null gets its default first."""
    if isinstance(section, list):
        return section[int(part)] if part.isdigit() and int(part) < len(section) else None
    if not isinstance(section, dict):
        return None
    child = section.get(part)
    if child is None:
        section[part] = default_at(part, sections)
    elif isinstance(child, str) and any(child in type_values(member) for member in sections_at(part, sections)):
        section[part] = {"type": child}  # e.g. execution: ray
    return section[part]


def _of_its_type(section: Any, members: Sequence[type[BaseModel]]) -> Sequence[type[BaseModel]]:
    """Return the members of a union that a section's `type` selects; all, if none."""
    if not isinstance(section, dict):
        return members
    return [member for member in members if section.get("type") in type_values(member)] or members


def _drop_keys_of_former_type(
    section: dict[str, Any], new_type: Any, members: Sequence[type[BaseModel]], kept: set[str]
) -> None:
    """Drop the keys that the section's type has and the new type lacks; a misspelled key stays, to be reported."""
    new = [member for member in members if new_type in type_values(member)]
    if not new or "type" not in section:
        return
    former = {name for member in _of_its_type(section, members) for name in member.model_fields}
    for name in former - {name for member in new for name in member.model_fields} - kept:
        section.pop(name, None)


def _is_set_by(key: str, others: set[str]) -> bool:
    """Return whether one of the others is the key or lies below it."""
    return any(f"{other}.".startswith(f"{key}.") for other in others)
