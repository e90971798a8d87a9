"""What a user can mend. Every message says what, where, what was got, and the cure; no traceback is shown for one."""

from collections.abc import Sequence


class PipelineError(Exception):
    """A fault outside the code: in the config, the faces, a file given. Commands print it and exit with `exit_code`."""

    exit_code = 1


class ConfigError(PipelineError):
    """The config, or an override of it, cannot be used."""


class FaceTableError(PipelineError):
    """The faces found cannot be used as the config asks."""


class CheckpointError(PipelineError):
    """A checkpoint is missing, unreadable or does not fit this run."""


class ManifestError(PipelineError):
    """A pseudo-label manifest is missing, unreadable or does not fit this run."""


class SelectionError(PipelineError):
    """The pseudo-labels accepted fall outside what the config's guard allows."""


class TrainingError(PipelineError):
    """Training cannot start, or has lost its footing."""


class RunError(PipelineError):
    """The run directory cannot be used."""


class StorageError(PipelineError):
    """The storage of a run cannot be reached or used, or not everything got there."""


class ReviewError(PipelineError):
    """A decision on a selection cannot be used."""


class ReviewPending(PipelineError):  # noqa: N818 - nothing went wrong
    """A person has to decide before the run goes on."""

    exit_code = 3


def list_of_faults(headline: str, faults: Sequence[str], *, at_most: int = 20) -> str:
    """Join a headline and its faults into one message, each on a line of its own, the rest counted.

    >>> print(list_of_faults("2 faults", ["a", "b"], at_most=1))
    2 faults
      a
      … and 1 more
    """
    shown = [f"  {fault}" for fault in faults[:at_most]]
    if len(faults) > at_most:
        shown.append(f"  … and {len(faults) - at_most:,} more")
    return "\n".join([headline, *shown])
