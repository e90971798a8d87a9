"""Config key `track`: which trackers of experiments follow the trainings of a run."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from ssl_pipeline.config.base import as_tuple

Tracker = Literal["tensorboard", "mlflow", "wandb"]


def _as_trackers(value: Any) -> Any:
    return () if value is None else as_tuple(value)


TrackConfig = Annotated[
    tuple[Tracker, ...], BeforeValidator(_as_trackers, json_schema_input_type=Tracker | tuple[Tracker, ...] | None)
]
"""One tracker by its name, or a list."""
