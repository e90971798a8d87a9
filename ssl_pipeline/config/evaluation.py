"""Config sections for calibration, out-of-fold teachers, the promotion gate and the shift diagnosis."""

from typing import Annotated, Literal

from pydantic import Field

from ssl_pipeline.config.base import Section


class NoCalibration(Section):
    """Uncalibrated: the network's own probabilities."""

    type: Literal["none"]


class TemperatureScaling(Section):
    """Temperature scaling, fitted on held-out faces (arXiv:1706.04599, section 4.2).

    The held-out faces are the validation faces. Fold teachers that label one part of the pool each are calibrated on the
    training faces of the other folds, predicted out of fold.
    """

    type: Literal["temperature"]
    per: Literal["class", "attribute"] = "attribute"
    """One temperature for the joint classes, or one per attribute."""
    min_persons: int = Field(default=50, ge=10)
    """With fewer persons among the fully labeled held-out faces the model stays uncalibrated; the record notes it. Where
    no person is known, each face counts as its own."""


class OutOfFoldConfig(Section):
    """Cross-fitting: split the training faces by person into folds and train one teacher without each fold.

    In the first round they label the pool: by the mean of their probabilities (deep ensembles, arXiv:1612.01474), or, to
    test a precision guarantee on the training faces, one teacher each part, as every training face is predicted by one.
    """

    num_folds: int = Field(default=5, ge=2, le=20)


CalibrationConfig = Annotated[NoCalibration | TemperatureScaling, Field(discriminator="type")]


class GateConfig(Section):
    """When to promote a student: a better metric on the validation faces, and no group of faces in which it is worse.

    Evidence is counted in independent units: a person's faces and copies of a picture are one unit.
    """

    metric: Literal["macro_f1", "accuracy"] = "macro_f1"
    min_probability: Annotated[float, Field(ge=0.5, le=1)] = 0.8
    """Minimum share of the bootstrap samples (over units) in which the student is better. 0.5 only requires a better
    point estimate, which an equal student has as often as not; 0.95 requires evidence that a hundred faces rarely provide."""
    num_draws: int = Field(default=2000, ge=100, le=100_000)
    """Number of bootstrap samples."""
    refuse_regressions: bool = True
    """Refuse a student that is worse in some group of faces (an attribute's value or an origin): exact sign test over the
    group's units, with Holm's correction over all groups, so that at most one equal student in twenty is refused."""
    min_units: int = Field(default=10, ge=2)
    """Smallest number of units of a group to test it, and of all faces to compute an interval. With 8 groups, 8 units
    that got worse and none that got better are the least evidence, so smaller groups could hardly ever be called worse
    and would only weaken the test of the others."""


class ShiftConfig(Section):
    """Domain classifier between pool and validation faces on the teacher's features. See docs/selection.md."""

    max_faces: int = Field(default=2000, ge=50, le=100_000)
    """Maximum number of faces per side, sampled with the run's seed."""
    strong_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.6
    """ROC-AUC from which the shift counts as strong, if it is also two standard errors above chance."""
