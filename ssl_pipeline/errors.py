"""Errors that a user can fix. Messages give what, where, the value got and the cure; commands print no traceback."""

from collections.abc import Sequence
from typing import Any


class PipelineError(Exception):
    """A fault in the config, the faces or a given file. Commands print it and exit with `exit_code`."""

    exit_code = 1


class ConfigError(PipelineError):
    """The config, or an override, is invalid."""


class FaceTableError(PipelineError):
    """The faces cannot be used with this config."""


class CheckpointError(PipelineError):
    """A checkpoint is missing, unreadable or does not fit this run."""


class ManifestError(PipelineError):
    """A pseudo-label manifest is missing, unreadable or does not fit this run."""


class SelectionError(PipelineError):
    """The accepted pseudo-labels violate the config's guards."""


class TrainingError(PipelineError):
    """Training cannot start, or has diverged or run out of memory."""


class RunError(PipelineError):
    """The run directory cannot be used."""


class StorageError(PipelineError):
    """The storage of a run cannot be reached or used, or an upload is incomplete."""


class ReviewError(PipelineError):
    """A decision on a selection is invalid."""


class ReviewPending(PipelineError):  # noqa: N818 - not an error
    """The run waits for a person's decision."""

    exit_code = 3


def list_of_faults(headline: str, faults: Sequence[str], *, at_most: int = 20) -> str:
    """Join a headline and up to `at_most` faults into one message, one per line; the rest is counted.

    >>> print(list_of_faults("2 faults", ["a", "b"], at_most=1))
    2 faults
      a
      … and 1 more
    """
    shown = [f"  {fault}" for fault in faults[:at_most]]
    if len(faults) > at_most:
        shown.append(f"  … and {len(faults) - at_most:,} more")
    return "\n".join([headline, *shown])


def shorten(value: Any) -> str:
    """Show a value in a message, cut after 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
