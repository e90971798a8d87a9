"""Config sections for losses; formulas: `learning.losses` and docs/training.md."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ssl_pipeline.config.base import Section
from ssl_pipeline.labels import LabelSpace

Positive = Annotated[float, Field(gt=0)]


class LossBase(Section):
    """Common keys: a loss over the joint classes, or the sum of one loss per attribute."""

    per: Literal["class", "attribute"] = "class"
    attribute_weights: dict[str, Positive] = Field(default_factory=dict)
    """With per: attribute, the weight of each attribute; default 1."""

    @model_validator(mode="after")
    def _check_attribute_weights(self) -> Self:
        if self.attribute_weights and self.per == "class":
            raise ValueError("attribute_weights need per: attribute; a loss over classes has none; --set per=attribute")
        return self

    def unknown_names(self, labels: LabelSpace) -> list[str]:
        """Return the keys that weight attributes missing from the label space."""
        return [f"attribute_weights.{name}" for name in self.attribute_weights if name not in labels.names]


class WeightedLoss(LossBase):
    """Common keys of losses with class weights and label smoothing."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | dict[str, Positive] | None = None
    """`balanced`: N / (V · n_v), as in scikit-learn. Or weights by name, default 1: of classes, e.g. ``female/>=60``;
    with per: attribute, of values, e.g. ``age/>=60``."""

    def unknown_names(self, labels: LabelSpace) -> list[str]:
        """Return the keys that weight attributes, classes or values missing from the label space."""
        if self.per == "class":
            known = set(labels.class_names)
        else:
            known = {f"{attribute.name}/{value}" for attribute in labels.attributes for value in attribute.values}
        weights = self.class_weights if isinstance(self.class_weights, dict) else {}
        return [*super().unknown_names(labels), *(f"class_weights.{name}" for name in weights if name not in known)]


class CrossEntropy(WeightedLoss):
    """Cross-entropy over candidate sets, with hard or soft targets."""

    type: Literal["cross_entropy"]


class Focal(WeightedLoss):
    """Focal loss: down-weights confident correct predictions (arXiv:1708.02002); its alpha is `class_weights`."""

    type: Literal["focal"]
    gamma: float = Field(default=2.0, ge=0)


class F1(LossBase):
    """One minus the macro F1 of a batch, differentiable: computed from probabilities instead of counts."""

    type: Literal["f1"]


class ExpectedNumber(Section):
    """Regression term: error of the number expected under the predicted bins of an attribute."""

    type: Literal["expected_number"]
    attribute: str
    """An attribute with bins of a number, e.g. age with ``from_column: age_years``."""


SingleLoss = Annotated[CrossEntropy | Focal | F1, Field(discriminator="type")]


Term = Annotated[CrossEntropy | Focal | F1 | ExpectedNumber, Field(discriminator="type")]


class MixtureTerm(Section):
    """A weighted loss of a mixture."""

    weight: Positive
    loss: Term


class Mixture(Section):
    """A weighted sum of losses, e.g. 0.4 · F1 + 0.6 · focal."""

    type: Literal["mixture"]
    terms: tuple[MixtureTerm, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _check_classes_are_learned(self) -> Self:
        if all(isinstance(term.loss, ExpectedNumber) for term in self.terms):
            raise ValueError("expected_number alone does not train the classes; add another term, e.g. cross_entropy")
        return self


LossConfig = Annotated[CrossEntropy | Focal | F1 | Mixture, Field(discriminator="type")]


def terms_of(loss: LossConfig) -> Iterator[tuple[str, float, CrossEntropy | Focal | F1 | ExpectedNumber]]:
    """Yield (dotted key inside the section, weight, loss) of each term; a loss that is no mixture is one term."""
    if isinstance(loss, Mixture):
        for position, term in enumerate(loss.terms):
            yield f"terms.{position}.loss.", term.weight, term.loss
    else:
        yield "", 1.0, loss
