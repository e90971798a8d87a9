"""Config key `track`: which trackers of experiments follow the trainings of a run."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

Tracker = Literal["tensorboard", "mlflow", "wandb"]


def _as_tuple(value: Any) -> Any:
    match value:
        case None:
            return ()
        case str():
            return (value,)
        case list():
            return tuple(value)
    return value


TrackConfig = Annotated[
    tuple[Tracker, ...], BeforeValidator(_as_tuple, json_schema_input_type=Tracker | tuple[Tracker, ...] | None)
]
"""One tracker by its name, or a list."""
