"""The config's sections for selection: which pseudo-labels to keep, by which strategy, and when to stop. See docs/selection.md."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Fraction, Section

Probability = Annotated[float, Field(gt=0, lt=1)]
Threshold = Annotated[float, Field(gt=0, le=1)]


class GuardsConfig(Section):
    """What a selection must look like; what does not is a fault. Every bound is allowed itself."""

    min_acceptance_rate: Fraction = 0.01
    max_acceptance_rate: Fraction = 1.0
    min_share_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """A value whose share among accepted labels is below so many times its share on validation; 0 asks nothing."""
    max_share_ratio: Annotated[float, Field(gt=1)] | None = None
    """A value whose share among accepted labels is above so many times its share on validation."""
    one_class: bool = True
    """Every accepted face is of one class."""
    worse_than_chance: bool = True
    """The teacher's balanced accuracy of an attribute on validation is below that of always naming one value."""
    on_fault: Literal["stop", "warn"] = "stop"
    """`warn` goes on, and selection.json and the run's summary name the faults."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_acceptance_rate > self.max_acceptance_rate:
            raise ValueError(
                f"min_acceptance_rate {self.min_acceptance_rate} exceeds max_acceptance_rate {self.max_acceptance_rate}"
            )
        return self


class SelectionBase(Section):
    """What every way of selecting has: the unit of decision, the kind of target, the alignment and the guards."""

    per: Literal["class", "attribute"] = "attribute"
    targets: Literal["hard", "soft"] = "soft"
    align: Literal["none", "training", "validation"] = "none"
    """Whose class mix the pool's mean prediction is brought to (ReMixMatch, arXiv:1911.09785)."""
    guards: GuardsConfig = GuardsConfig()


class FixedThreshold(SelectionBase):
    """Accept what is at least `confidence_threshold` sure (FixMatch, arXiv:2001.07685)."""

    type: Literal["fixed_threshold"]
    confidence_threshold: Threshold = 0.95


class BalancedTopK(SelectionBase):
    """Accept the `k` surest of every class, or of every value of an attribute (Noisy Student, arXiv:1911.04252)."""

    type: Literal["balanced_top_k"]
    k: int = Field(ge=1)
    min_confidence: Fraction = 0.0


class PercentileCurriculum(SelectionBase):
    """Accept the surest `step_percent` of the pool in round 1, twice as many in round 2, … (arXiv:2001.06001)."""

    type: Literal["percentile_curriculum"]
    step_percent: Annotated[float, Field(gt=0, le=100)] = 20.0


class SelfAdaptive(SelectionBase):
    """Accept by the pool's mean confidence, lowered for values that the teacher rarely predicts (arXiv:2205.07246)."""

    type: Literal["self_adaptive"]


class GaussianWeights(SelectionBase):
    """Weigh labels by how far their confidence falls below the pool's mean (SoftMatch, arXiv:2301.10921)."""

    type: Literal["gaussian_weights"]
    min_weight: Threshold = 0.01


class EnsembleAgreement(SelectionBase):
    """Accept what is sure, and on which several views or teachers agree (UPS, arXiv:2101.06329)."""

    type: Literal["ensemble_agreement"]
    confidence_threshold: Threshold = 0.7
    max_deviation: Annotated[float, Field(ge=0, le=1)] = 0.05


class PrecisionGuarantee(SelectionBase):
    """Accept by the lowest threshold that is right on held-out faces often enough, with confidence 1 − `delta`."""

    type: Literal["precision_guarantee"]
    target: Probability = 0.9
    delta: Probability = 0.1
    familywise: bool = False
    """Guarantee all values at once with 1 − `delta`, each with 1 − `delta` / their number (Bonferroni)."""
    num_thresholds: int = Field(default=20, ge=1, le=1000)

    @model_validator(mode="after")
    def _check_alignment(self) -> Self:
        if self.align == "validation":
            raise ValueError(
                "align: validation would let the faces that test the guarantee shape the predictions; "
                "use align: training or none"
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

DEFAULT = PrecisionGuarantee(type="precision_guarantee", target=0.8)
"""No way to select has been shown to serve a student better (docs/strategies.md); this one says how often it is right."""
