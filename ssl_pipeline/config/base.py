"""Base class of all config sections."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
SOURCE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
ATTRIBUTE_NAME = r"^[a-z][a-z0-9_]*$"
ADDRESS = r"^(auto|[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5})$"
PATTERNS = {
    RUN_NAME: "up to 100 letters, digits, '.', '_' or '-', the first a letter or digit, e.g. first-run",
    SOURCE_NAME: "letters, digits, '.', '_' or '-', the first a letter or digit, e.g. my-faces",
    ATTRIBUTE_NAME: "lower-case letters, digits or '_', the first a letter, e.g. hair_color",
    ADDRESS: "host:port of a Ray cluster's head, or auto, e.g. 10.0.0.5:6379",
}
"""Pattern → the same in words, for messages."""

Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of every section: unknown keys are refused, numbers are finite, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def as_tuple(value: Any) -> Any:
    """Let a single value stand for a list of one, before a key that takes a list is validated."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)
