"""The config's section for calibration: what makes a confidence of 0.9 mean nine in ten."""

from typing import Annotated, Literal

from pydantic import Field

from ssl_pipeline.config_base import Section


class NoCalibration(Section):
    """Probabilities as the network gives them."""

    type: Literal["none"]


class TemperatureScaling(Section):
    """Soften or sharpen probabilities by temperatures fitted on validation faces (arXiv:1706.04599, section 4.2)."""

    type: Literal["temperature"]
    per: Literal["class", "attribute"] = "attribute"
    """One temperature for the joint classes, or one for each attribute."""
    min_faces: int = Field(default=50, ge=10)
    """With fewer fully known validation faces nothing is fitted: the model stays uncalibrated, and the record says so."""


CalibrationConfig = Annotated[NoCalibration | TemperatureScaling, Field(discriminator="type")]
