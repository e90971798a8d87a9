"""Config section `fixmatch`: agreement with the pool, a second term of the training loss."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Fraction, Section
from ssl_pipeline.labels import LabelSpace


class Alignment(Section):
    """Distribution alignment of the targets (ReMixMatch, arXiv:1911.09785, section 3.1): q(v) ∝ p(v) · (prior(v) / p̄(v))^e."""

    prior: Literal["training", "flat"] | dict[str, dict[str, Annotated[float, Field(ge=0)]]] = "training"
    """The values' expected shares in the pool: those of the training faces, equal ones, or {attribute: {value: share}}."""
    exponent: Annotated[float, Field(gt=0, le=1)] = 1.0
    """e; below 1, the targets keep a part of what the model believes of the pool."""


class FixMatchConfig(Section):
    """FixMatch (arXiv:2001.07685): the averaged model's predictions on weak views are targets for strong views of the pool.

    With `teacher_share`, the teacher's predictions are a part of the targets, or all of them.
    Everything is decided per attribute; values that are known of a face bound its targets. Class weights, label smoothing
    and the loss's other terms do not apply to the pool.
    """

    weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of the term; the loss on the labels has 1."""
    attribute_weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Factors of single attributes, by default 1; 0: the pool teaches only the attribute's known values."""
    faces_per_labeled: Annotated[float, Field(gt=0, le=50)] = 2.0
    """Pool faces per step, as a multiple of the labeled ones."""
    teacher_share: Fraction = 0.0
    """Share of the teacher's class probabilities, as the manifest has them, in a target; the rest is the averaged model's
    prediction. 1 distills the teacher (arXiv:1503.02531): its labels of the pool stay fixed, and no weak view is predicted."""
    targets: Literal["hard", "soft"] = "hard"
    """The most probable value, or the probabilities of all values."""
    threshold: Literal["fixed", "self_adaptive", "gaussian_weights"] = "fixed"
    """`fixed`: `confidence_threshold`; `self_adaptive`: FreeMatch (arXiv:2205.07246), the mean confidence, lower for
    rarely predicted values; `gaussian_weights`: SoftMatch (arXiv:2301.10921), a weight instead of a threshold."""
    confidence_threshold: Fraction | dict[str, Fraction] | None = None
    """Smallest probability of a target, for all attributes or for each, by default 0.95; only with `threshold: fixed`."""
    align: Alignment | None = None
    momentum: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Of the running means over steps that `align`, `self_adaptive` and `gaussian_weights` use."""
    pseudo_labels: bool = False
    """Whether the student also trains on the manifest's accepted pseudo-labels, which stay fixed during the training."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.threshold != "fixed" and self.confidence_threshold is not None:
            raise ValueError(f"confidence_threshold is not used with threshold {self.threshold}; --set threshold=fixed")
        return self

    def threshold_of(self, attribute: str) -> float:
        """Return the fixed threshold of an attribute; of those that are not named, 0.95."""
        threshold = self.confidence_threshold
        if isinstance(threshold, dict):
            threshold = threshold.get(attribute)
        return 0.95 if threshold is None else threshold

    def faults(self, labels: LabelSpace) -> Iterator[str]:
        """Yield the names that the labels do not have, each with its key in this section."""
        by_attribute = {"attribute_weights": self.attribute_weights}
        if isinstance(self.confidence_threshold, dict):
            by_attribute["confidence_threshold"] = self.confidence_threshold
        prior = {} if self.align is None or isinstance(self.align.prior, str) else self.align.prior
        by_attribute["align.prior"] = dict.fromkeys(prior, 0.0)
        for key, named in by_attribute.items():
            for name in named:
                if name not in labels.names:
                    yield f"{key}: no attribute '{name}'; the attributes: {', '.join(labels.names)}"
        values = labels.to_dict()
        for name, shares in prior.items():
            if name in values and (set(shares) != set(values[name]) or sum(shares.values()) <= 0):
                yield f"align.prior.{name}: expected a share for each of {', '.join(values[name])}, one above 0, got {shares}"
