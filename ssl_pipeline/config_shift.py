"""The config's section for the diagnosis of shift: whether the pool's faces are like those that selection rests on."""

from typing import Annotated

from pydantic import Field

from ssl_pipeline.config_base import Section


class ShiftConfig(Section):
    """Can a classifier tell the pool from the validation faces by the teacher's features? See docs/selection.md."""

    max_faces: int = Field(default=2000, ge=50, le=100_000)
    """Of each side, drawn by the run's seed."""
    strong_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    """From this ROC-AUC on the shift is called strong, if it lies two standard errors above chance, too."""
