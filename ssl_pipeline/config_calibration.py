"""The config's sections for labeled faces that a teacher has not seen, and for calibration on them: 0.9 means nine in ten."""

from typing import Annotated, Literal

from pydantic import Field

from ssl_pipeline.config_base import Section


class NoCalibration(Section):
    """Probabilities as the network gives them."""

    type: Literal["none"]


class TemperatureScaling(Section):
    """Soften or sharpen probabilities by temperatures fitted on unseen faces (arXiv:1706.04599, section 4.2).

    Those are the validation faces; for the teachers of `out_of_fold`, the training faces, each out of its fold.
    """

    type: Literal["temperature"]
    per: Literal["class", "attribute"] = "attribute"
    """One temperature for the joint classes, or one for each attribute."""
    min_faces: int = Field(default=50, ge=10)
    """With fewer fully known unseen faces nothing is fitted: the model stays uncalibrated, and the record says so."""


class OutOfFoldConfig(Section):
    """Split the training faces by person into parts, and train a teacher without each: what it says of that part is unseen.

    The teachers label the pool together, in the first round: the mean of their probabilities. What each says of the part
    that it did not learn from calibrates them and tests promises (cross-fitting; deep ensembles, arXiv:1612.01474).
    """

    num_folds: int = Field(default=5, ge=2, le=20)


CalibrationConfig = Annotated[NoCalibration | TemperatureScaling, Field(discriminator="type")]
