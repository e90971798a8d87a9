"""The config's sections for losses; their formulas stand in `learning.losses` and in docs/training.md."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Section
from ssl_pipeline.labels import LabelSpace

Positive = Annotated[float, Field(gt=0)]


class LossBase(Section):
    """What every loss has: whether it is taken over classes, or over each attribute by itself and then summed."""

    per: Literal["class", "attribute"] = "class"
    attribute_weights: dict[str, Positive] = Field(default_factory=dict)
    """With per: attribute, how much each attribute counts; 1 where it is not named."""

    @model_validator(mode="after")
    def _check_attribute_weights(self) -> Self:
        if self.attribute_weights and self.per == "class":
            raise ValueError("attribute_weights need per: attribute; a loss over classes has no attributes to weigh")
        return self

    def unknown_names(self, labels: LabelSpace) -> list[str]:
        """Name the attributes that are weighed here and not in the label space."""
        return [f"attribute_weights.{name}" for name in self.attribute_weights if name not in labels.names]


class WeightedLoss(LossBase):
    """A loss in which the values of the target may weigh differently, and the target may be smoothed."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | dict[str, Positive] | None = None
    """`balanced`: N / (V · n_v), as scikit-learn's. Or weights by name, 1 where not named: of classes, as
    ``female/>=60``; with per: attribute, of values, as ``age/>=60``."""

    def unknown_names(self, labels: LabelSpace) -> list[str]:
        """Name what is weighed here and not in the label space."""
        if self.per == "class":
            known = set(labels.class_names)
        else:
            known = {f"{attribute.name}/{value}" for attribute in labels.attributes for value in attribute.values}
        weighed = self.class_weights if isinstance(self.class_weights, dict) else {}
        return [*super().unknown_names(labels), *(f"class_weights.{name}" for name in weighed if name not in known)]


class CrossEntropy(WeightedLoss):
    """Cross-entropy over candidate sets, hard or soft targets."""

    type: Literal["cross_entropy"]


class Focal(WeightedLoss):
    """Cross-entropy in which what is surely right already counts little (arXiv:1708.02002); alpha is class_weights."""

    type: Literal["focal"]
    gamma: float = Field(default=2.0, ge=0)


class F1(LossBase):
    """One minus the macro F1 of a batch, made differentiable by counting probabilities."""

    type: Literal["f1"]


class ExpectedNumber(Section):
    """How far the number that a model expects of an attribute's ranges is off: a number learned beside the classes."""

    type: Literal["expected_number"]
    attribute: str
    """A range of a number, as age of ``from_column: age_years``."""


SingleLoss = Annotated[CrossEntropy | Focal | F1, Field(discriminator="type")]


Term = Annotated[CrossEntropy | Focal | F1 | ExpectedNumber, Field(discriminator="type")]


class MixtureTerm(Section):
    """A loss and its share."""

    weight: Positive
    loss: Term


class Mixture(Section):
    """A weighted sum of losses, as 0.4 · F1 + 0.6 · focal."""

    type: Literal["mixture"]
    terms: tuple[MixtureTerm, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _check_classes_are_learned(self) -> Self:
        if all(isinstance(term.loss, ExpectedNumber) for term in self.terms):
            raise ValueError("expected_number teaches no classes; put another loss beside it, as cross_entropy")
        return self


LossConfig = Annotated[CrossEntropy | Focal | F1 | Mixture, Field(discriminator="type")]


def terms_of(loss: LossConfig) -> Iterator[tuple[str, float, CrossEntropy | Focal | F1 | ExpectedNumber]]:
    """Give (dotted key inside the section, weight, loss) of each term; a loss that is no mixture is its one term."""
    if isinstance(loss, Mixture):
        for position, term in enumerate(loss.terms):
            yield f"terms.{position}.loss.", term.weight, term.loss
    else:
        yield "", 1.0, loss
