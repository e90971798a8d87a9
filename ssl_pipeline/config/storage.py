"""The config's section for storage: where else than on this machine's disk a run is kept.

No secret has a place here: a config is copied into every run and every store.
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
    """Keep a copy of the run on a file system that outlives this machine, and go on from it on another one."""

    url: str
    """Where runs are kept, as ``s3://bucket/runs``; a run lies in a folder of its name there. Any protocol of fsspec."""
    options: dict[str, Any] = Field(default_factory=dict)
    """For the file system, as ``{endpoint_url: http://host:9000}``."""
    every_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    """Pause between two uploads: with the machine, at most the work of so long is lost, and of the upload under way."""
    pixels: bool = True
    """Keep the decoded faces too, usually the largest file. Without them another machine prepares the faces anew from
    the sources, which it must have."""
    retry_seconds: Annotated[float, Field(ge=0, le=86_400)] = 60
    """How long to go on trying, at the start and at the end of a run, when the storage cannot be reached."""
    lock_seconds: Annotated[float, Field(ge=1, le=86_400)] = 120
    """A machine in the run that has not been heard of for so long is taken for dead."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        protocol, separator, place = self.url.partition("://")
        if not separator or not place.strip("/"):
            raise ValueError(
                f"url: expected protocol://place, as s3://bucket/runs, got '{self.url.rpartition('@')[2]}'"
            )
        if "@" in place or "?" in place:
            raise ValueError(f"url: holds more than a place ('@' or '?'); {_CURE}")
        if protocol not in {*known_implementations, *registry}:
            raise ValueError(f"url: fsspec knows no protocol '{protocol}'; expected one as s3, gs, az, sftp or file")
        if ".." in place.split("/"):
            raise ValueError(f"url: expected a place without '..', got '{self.url}'")
        if suspects := [key for key in _keys_of(self.options) if _SECRET_WORDS & set(_words(key))]:
            raise ValueError(f"options.{suspects[0]}: its name is that of a secret; {_CURE}")
        return self


_CURE = (
    "a config holds none, as it is copied into every run; give it by the environment (AWS_PROFILE, or AWS_ACCESS_KEY_ID "
    "and AWS_SECRET_ACCESS_KEY) or by fsspec's own config (docs/storage.md)"
)


def _keys_of(options: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    for key, value in options.items():
        yield f"{inside}{key}"
        if isinstance(value, Mapping):
            yield from _keys_of(value, f"{inside}{key}.")


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key.rpartition(".")[2])]
