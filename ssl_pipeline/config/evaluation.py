"""The config's sections for labeled faces that a teacher has not seen, and for calibration on them: 0.9 means nine in ten."""

from typing import Annotated, Literal

from pydantic import Field

from ssl_pipeline.config.base import Section


class NoCalibration(Section):
    """Probabilities as the network gives them."""

    type: Literal["none"]


class TemperatureScaling(Section):
    """Soften or sharpen probabilities by temperatures fitted on held-out faces (arXiv:1706.04599, section 4.2).

    Those are the validation faces; for the teachers of `out_of_fold`, the training faces, each out of its fold.
    """

    type: Literal["temperature"]
    per: Literal["class", "attribute"] = "attribute"
    """One temperature for the joint classes, or one for each attribute."""
    min_faces: int = Field(default=50, ge=10)
    """With fewer fully known held-out faces nothing is fitted: the model stays uncalibrated, and the record says so."""


class OutOfFoldConfig(Section):
    """Split the training faces by person into parts, and train a teacher without each: what it says of that part is held-out.

    The teachers label the pool together, in the first round: the mean of their probabilities. What each says of the part
    that it did not learn from calibrates them and tests guarantees (cross-fitting; deep ensembles, arXiv:1612.01474).
    """

    num_folds: int = Field(default=5, ge=2, le=20)


CalibrationConfig = Annotated[NoCalibration | TemperatureScaling, Field(discriminator="type")]


class GateConfig(Section):
    """A student is promoted if it is better on the validation faces, and probably so: by a bootstrap over persons."""

    metric: Literal["macro_f1", "accuracy"] = "macro_f1"
    min_probability: Annotated[float, Field(ge=0.5, le=1)] = 0.5
    """Least share of the draws in which the student is better. 0.5 asks no more than that it is better on the whole; 0.95
    asks for evidence, which a hundred faces rarely give."""
    num_draws: int = Field(default=2000, ge=100, le=100_000)
    refuse_regressions: bool = False
    """Refuse a student that is clearly worse in the accuracy of some group of faces: its 95 % interval lies below 0. Each
    group is looked at by itself, so that of twenty equal ones one may look worse by chance."""


class ShiftConfig(Section):
    """Can a classifier tell the pool from the validation faces by the teacher's features? See docs/selection.md."""

    max_faces: int = Field(default=2000, ge=50, le=100_000)
    """Of each side, drawn by the run's seed."""
    strong_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    """From this ROC-AUC on the shift is called strong, if it lies two standard errors above chance, too."""
