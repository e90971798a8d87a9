"""Atomic writes, JSON and digests of files."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ssl_pipeline.errors import RunError
from ssl_pipeline.runs.disk import catch_disk_full
from ssl_pipeline.runs.profile import part_of_stage

logger = logging.getLogger(__name__)

_PARTIAL, _STALE_SECONDS = ".partial", 60


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; it replaces `path` if the block succeeds and is deleted otherwise.

    Raises:
        RunError: if the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        with catch_disk_full(path), part_of_stage("write"):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(root: Path) -> None:
    """Remove partial files of killed processes; those changed in the last minute may still be in progress."""
    for path in root.rglob(f".*{_PARTIAL}"):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            path.unlink(missing_ok=True)
            logger.info("%s: removed, a partial file of a killed process", path)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=jsonable) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: if the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: not JSON ({error}); delete it and run again") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(content: Any) -> str:
    """SHA-256 of a JSON-serializable value, independent of the order of keys, hexadecimal."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=jsonable)
    return hashlib.sha256(text.encode()).hexdigest()


def jsonable(value: Any) -> Any:
    """Convert paths, numpy scalars and config sections to plain values: the `default` of json.dumps."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot write {type(value).__name__} as JSON")
