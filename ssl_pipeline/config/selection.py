"""Config sections for selection: strategies, thresholds and guards; docs/selection.md explains them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Fraction, Section

Probability = Annotated[float, Field(gt=0, lt=1)]
Threshold = Annotated[float, Field(gt=0, le=1)]


class GuardsConfig(Section):
    """Checks of a selection before it is used. Bounds are inclusive."""

    min_acceptance_rate: Fraction = 0.01
    max_acceptance_rate: Fraction = 1.0
    """Range of the share of candidates that are accepted."""
    min_share_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Flag values below this fraction of their validation share; 0 disables."""
    max_share_ratio: Annotated[float, Field(gt=1)] | None = None
    """Flag values above this multiple of their validation share; None disables."""
    one_class: bool = True
    """Flag a selection that accepts faces of a single class only."""
    worse_than_chance: bool = True
    """Flag attributes whose balanced accuracy on validation is below that of a constant prediction."""
    on_fault: Literal["stop", "warn"] = "stop"
    """`stop` trains no student on a selection with faults: the cycle ends with the teacher, or the student before; `warn`
    trains it. Both record the faults in selection.json and the run's summary."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_acceptance_rate > self.max_acceptance_rate:
            raise ValueError(
                f"min_acceptance_rate {self.min_acceptance_rate} exceeds max_acceptance_rate {self.max_acceptance_rate}; "
                "--set max_acceptance_rate=1"
            )
        return self


class SelectionBase(Section):
    """Common keys of all strategies."""

    per: Literal["class", "attribute"] = "attribute"
    """Accept or reject the joint class of a face, or each of its attributes separately."""
    targets: Literal["hard", "soft"] = "soft"
    """Targets of the student: one value, or the teacher's probabilities."""
    align: Literal["none", "training", "validation"] = "none"
    """Distribution alignment: scale predictions so that their mean over the pool matches this split's class prior
    (ReMixMatch, arXiv:1911.09785)."""
    guards: GuardsConfig = GuardsConfig()


class FixedThreshold(SelectionBase):
    """Accept labels with at least this confidence (FixMatch, arXiv:2001.07685)."""

    type: Literal["fixed_threshold"]
    confidence_threshold: Threshold = 0.95


class BalancedTopK(SelectionBase):
    """Accept the `k` most confident faces per class, or per value of an attribute (Noisy Student, arXiv:1911.04252)."""

    type: Literal["balanced_top_k"]
    k: int = Field(ge=1)
    min_confidence: Fraction = 0.0


class PercentileCurriculum(SelectionBase):
    """Accept the most confident `step_percent` of the pool in round 1, twice as many in round 2, … (arXiv:2001.06001)."""

    type: Literal["percentile_curriculum"]
    step_percent: Annotated[float, Field(gt=0, le=100)] = 20.0


class SelfAdaptive(SelectionBase):
    """FreeMatch: threshold at the pool's mean confidence, lower for rarely predicted values (arXiv:2205.07246)."""

    type: Literal["self_adaptive"]


class GaussianWeights(SelectionBase):
    """Weight labels by a Gaussian of their confidence below the pool's mean (SoftMatch, arXiv:2301.10921)."""

    type: Literal["gaussian_weights"]
    min_weight: Threshold = 0.01
    """Labels with a smaller weight are rejected."""


class EnsembleAgreement(SelectionBase):
    """Accept confident labels on which several views or teachers agree (UPS, arXiv:2101.06329)."""

    type: Literal["ensemble_agreement"]
    confidence_threshold: Threshold = 0.7
    max_deviation: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Maximum standard deviation of the label's probability over the views or teachers."""


class PrecisionGuarantee(SelectionBase):
    """Lowest threshold at which the precision on held-out faces is at least `target`, with confidence 1 − `delta`."""

    type: Literal["precision_guarantee"]
    target: Probability = 0.9
    delta: Probability = 0.1
    familywise: bool = False
    """Guarantee all values jointly with confidence 1 − `delta` (Bonferroni: each with 1 − `delta` / their number)."""
    num_thresholds: int = Field(default=20, ge=1, le=1000)
    """Number of thresholds that are tested."""

    @model_validator(mode="after")
    def _check_alignment(self) -> Self:
        if self.align == "validation":
            raise ValueError(
                "align: validation would adapt the predictions to the faces that test the guarantee; "
                "--set align=training or --set align=none"
            )
        return self


SelectionConfig = Annotated[
    FixedThreshold
    | BalancedTopK
    | PercentileCurriculum
    | SelfAdaptive
    | GaussianWeights
    | EnsembleAgreement
    | PrecisionGuarantee,
    Field(discriminator="type"),
]

DEFAULT = FixedThreshold(type="fixed_threshold", confidence_threshold=0.8)
"""No strategy was measurably better for the student (docs/results.md); this one needs no faces kept for a test."""
