"""Long lists as JSON, written entry by entry."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ssl_pipeline.runs.files import atomic_path


def write_json_list(path: Path, entries: Iterable[Any], *, before: str = "", after: str = "") -> int:
    """Write a list atomically, an entry a line, and return the number of entries.

    Args:
        path: the file.
        entries: JSON-serializable.
        before: text before the list, e.g. ``{"samples": ``.
        after: text behind it.
    """
    num = 0
    with atomic_path(path) as partial, open(partial, "w", encoding="utf-8") as file:
        file.write(f"{before}[")
        for entry in entries:
            file.write(",\n" if num else "\n")
            file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False))
            num += 1
        file.write(f"\n]{after}\n")
    return num
