"""Config section `storage`: a copy of the run outside this machine.

Secrets are refused: a config is copied into every run and every storage.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from fsspec.registry import known_implementations, registry
from pydantic import Field, model_validator

from ssl_pipeline.config.base import Section

_SECRET_WORDS = {"key", "keys", "secret", "token", "password", "passwd", "credential", "credentials", "sas", "auth"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")  # of snake_case and camelCase alike


class StorageConfig(Section):
    """Mirror the run to a remote file system, so that another machine can continue it."""

    url: str
    """Folder of runs, e.g. ``s3://bucket/runs``; each run has a subfolder with its name. Any protocol of fsspec."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the fsspec file system, e.g. ``{endpoint_url: http://host:9000}``."""
    every_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """Pause between two uploads. A lost machine loses at most this much work, plus that of the upload in progress."""
    pixels: bool = True
    """Upload the decoded faces too, usually the largest file. Without them another machine needs the sources and prepares
    the faces again."""
    retry_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60
    """How long to retry an unreachable storage at the start and at the end of a run."""
    lock_seconds: Annotated[float, Field(ge=1, le=86_400)] = 120
    """A machine that has not refreshed its lock for this long counts as dead."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        protocol, separator, location = self.url.partition("://")
        if not separator or not location.strip("/"):
            raise ValueError(
                f"url: expected protocol://location, e.g. s3://bucket/runs, got '{self.url.rpartition('@')[2]}'"
            )
        if "@" in location or "?" in location:
            raise ValueError(f"url: contains credentials or a query ('@' or '?'); {_CURE}")
        if protocol not in {*known_implementations, *registry}:
            raise ValueError(
                f"url: unknown protocol '{protocol}'; expected one of fsspec's, e.g. s3, gs, az, sftp or file"
            )
        if ".." in location.split("/"):
            raise ValueError(f"url: expected a location without '..', got '{self.url}'")
        if suspects := [key for key in _dotted_keys(self.options) if _SECRET_WORDS & set(_words(key))]:
            raise ValueError(f"options.{suspects[0]}: looks like a secret; {_CURE}")
        return self


_CURE = (
    "a config must not contain secrets, since it is copied into every run; set them in the environment (AWS_PROFILE, or "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or in fsspec's own config (docs/storage.md)"
)


def _dotted_keys(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in options.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted_keys(value, f"{prefix}{key}.")


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key.rpartition(".")[2])]
