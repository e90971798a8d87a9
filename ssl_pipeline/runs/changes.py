"""Differences between two nested mappings, e.g. two configs, by dotted key."""

from collections.abc import Mapping
from typing import Any


def changed_values(before: Any, after: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """List the values that differ.

    Returns:
        Dotted key → value before and after; None where there is none.

    >>> changed_values({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4}})
    {'b.c': (2, 4), 'b.d': (3, None)}
    """
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return {} if before == after else {key: (before, after)}
    changed: dict[str, tuple[Any, Any]] = {}
    for name in [*before, *(name for name in after if name not in before)]:
        changed |= changed_values(before.get(name), after.get(name), f"{key}.{name}" if key else str(name))
    return changed
