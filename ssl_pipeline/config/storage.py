"""Section `storage`: where runs are kept besides this machine's disk.

It holds no secrets: a config is copied into every run and every storage.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from fsspec.registry import known_implementations, registry
from pydantic import Field, model_validator

from ssl_pipeline.config.base import Section

_SECRET_WORDS = {"key", "keys", "secret", "token", "password", "passwd", "credential", "credentials", "sas", "auth"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # in snake_case and camelCase


class StorageConfig(Section):
    """Keep a copy of the run on a file system that outlives this machine, to continue it on another one."""

    url: str
    """Folder of the runs, e.g. ``s3://bucket/runs``; each run has a subfolder of its name. Any protocol of fsspec."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the file system, e.g. ``{endpoint_url: http://host:9000}``."""
    every_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """Least pause between two uploads within a stage, i.e. after epochs, saved steps and shards. The end of a stage
    always uploads."""
    pixels: bool = True
    """Keep the decoded faces too, usually the largest file. Without them another machine prepares the faces again from
    the sources, which it must have."""
    lock_seconds: Annotated[float, Field(ge=1, le=86_400)] = 900
    """Another machine may take over the run if the last upload is this long ago. Set it above the longest epoch."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_removed_key(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "retry_seconds" in data:
            raise ValueError("retry_seconds: removed, since the next upload tries again; delete this key")
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        protocol, separator, path = self.url.partition("://")
        if not separator or not path.strip("/"):
            raise ValueError(
                f"url: expected protocol://path, e.g. s3://bucket/runs, got '{self.url.rpartition('@')[2]}'"
            )
        if "@" in path or "?" in path:
            raise ValueError(f"url: expected a path without '@' and '?'; {_CURE}")
        if protocol not in {*known_implementations, *registry}:
            raise ValueError(f"url: expected a protocol of fsspec, e.g. s3, gs, az, sftp or file, got '{protocol}'")
        if ".." in path.split("/"):
            raise ValueError(f"url: expected a path without '..', got '{self.url}'")
        if secrets := [key for key in _nested_keys(self.options) if _SECRET_WORDS & set(_words(key))]:
            raise ValueError(f"options.{secrets[0]}: looks like a secret; {_CURE}")
        return self


_CURE = (
    "a config holds no secrets, since it is copied into every run; set them in the environment (AWS_PROFILE, or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or in fsspec's own config (docs/storage.md)"
)


def _nested_keys(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in options.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _nested_keys(value, f"{prefix}{key}.")


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key.rpartition(".")[2])]
