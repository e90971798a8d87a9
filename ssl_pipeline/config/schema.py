"""The schema of a config, walked by dotted keys: sections, their types, their defaults."""

from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def type_values(section: type[BaseModel]) -> tuple[Any, ...]:
    """Return the values of a section's key `type`; empty if it has none."""
    return get_args(section.model_fields["type"].annotation) if "type" in section.model_fields else ()


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a field's annotation admits, also as items of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple, list):
        return [section for argument in get_args(annotation) for section in sections_in(argument)]
    return []


def sections_at(key: str, sections: Sequence[type[BaseModel]]) -> list[type[BaseModel]]:
    """Return the sections that a key of any of these sections admits."""
    fields = [section.model_fields[key] for section in sections if key in section.model_fields]
    return list(dict.fromkeys(member for field in fields for member in sections_in(field.annotation)))


def default_at(key: str, sections: Sequence[type[BaseModel]]) -> Any:
    """Return a key's default as plain values: of a section its `type` and what the default sets; a list; else {}."""
    for section in sections:
        default = section.model_fields[key].get_default() if key in section.model_fields else None
        if isinstance(default, BaseModel):
            values = default.model_dump(mode="json", exclude_unset=True)
            return {"type": getattr(default, "type")} | values if type_values(type(default)) else values  # noqa: B009
        if isinstance(default, tuple):
            return list(default)
    return {}


def resolve(location: Sequence[str | int], schema: type[BaseModel]) -> tuple[list[str | int], list[type[BaseModel]]]:
    """Follow an error's location to its keys, without the union members that pydantic inserts, and to the sections there."""
    keys: list[str | int] = []
    sections: list[type[BaseModel]] = [schema]
    for part in location:
        if len(sections) > 1 and (chosen := [section for section in sections if part in type_values(section)]):
            sections = chosen
        elif not is_union_member(part):
            keys.append(part)
            if isinstance(part, str):
                sections = sections_at(part, sections)
    return keys, sections


def is_union_member(part: str | int) -> bool:
    """Return whether a part of an error's location names a member of a union, e.g. of ``bool | dict``, and no key."""
    return part in ("bool", "int", "float", "str") or "[" in str(part)


def dotted_key(location: Sequence[str | int], schema: type[BaseModel]) -> str:
    """Return an error's location as the user writes it."""
    return ".".join(str(part) for part in resolve(location, schema)[0])
