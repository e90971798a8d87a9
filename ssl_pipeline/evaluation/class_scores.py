"""Scores of one set of classes, joint or of an attribute, by scikit-learn.

Shapes: N faces, V classes. A class is judged only if it occurs in the truth, so that two models judged on the same
faces are averaged over the same classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from ssl_pipeline.evaluation.calibration_error import expected_calibration_error, reliability_table
from ssl_pipeline.evaluation.ranking import ranking_scores
from ssl_pipeline.labels import FloatArray, IntArray


@dataclass(frozen=True)
class PerClass:
    """Scores of the P classes that occur in the truth; each array is [P], the scores in [0, 1]."""

    class_ids: IntArray
    num_faces: IntArray
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    roc_auc: FloatArray
    """One class against the rest; NaN where there is no rest."""
    average_precision: FloatArray
    """NaN where there is no rest."""

    @classmethod
    def of(cls, truth: IntArray, probabilities: FloatArray) -> "PerClass":
        """Judge probabilities [N, V] by the truth [N]; a class that is never predicted has precision 0."""
        present = np.unique(truth)
        precision, recall, f1, num_faces = precision_recall_fscore_support(
            truth, probabilities.argmax(axis=1), labels=present, zero_division=0
        )
        roc_auc = average_precision = np.full(len(present), np.nan)
        if len(present) > 1:
            is_class, of_class = truth[:, None] == present, probabilities[:, present]
            roc_auc = roc_auc_score(is_class, of_class, average=None)
            average_precision = average_precision_score(is_class, of_class, average=None)
        return cls(present, num_faces, precision, recall, f1, roc_auc, average_precision)

    def named(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """Give ``{name: {num_faces, precision, recall, f1, roc_auc, average_precision}}``, undefined ones None."""
        return {
            names[class_id]: {
                "num_faces": int(self.num_faces[row]),
                "precision": float(self.precision[row]),
                "recall": float(self.recall[row]),
                "f1": float(self.f1[row]),
                "roc_auc": _defined(self.roc_auc[row]),
                "average_precision": _defined(self.average_precision[row]),
            }
            for row, class_id in enumerate(self.class_ids)
        }


def class_scores(truth: IntArray, probabilities: FloatArray, per_class: PerClass) -> dict[str, float | None]:
    """Score a set of classes by all metrics of `config_metrics` but those of numbers; see `learning.metrics`.

    Args:
        truth: int [N], in 0 … V-1.
        probabilities: float64 [N, V], rows sum to 1.
        per_class: the same faces'.
    """
    scores: dict[str, float | None] = {"accuracy": float(accuracy_score(truth, probabilities.argmax(axis=1)))}
    scores["balanced_accuracy"] = float(per_class.recall.mean())
    for name, values in (("precision", per_class.precision), ("recall", per_class.recall), ("f1", per_class.f1)):
        scores[f"macro_{name}"] = float(values.mean())
        scores[f"weighted_{name}"] = float(np.average(values, weights=per_class.num_faces))
    scores["roc_auc"] = _defined(per_class.roc_auc.mean())
    scores["average_precision"] = _defined(per_class.average_precision.mean())
    if probabilities.shape[1] > 1:  # scikit-learn refuses to judge the probabilities of a single class
        classes = range(probabilities.shape[1])
        scores["log_loss"] = float(log_loss(truth, probabilities, labels=classes))
        scores["brier_score"] = float(brier_score_loss(truth, probabilities, labels=classes, scale_by_half=False))
    else:
        scores["log_loss"] = scores["brier_score"] = None
    scores["expected_calibration_error"] = expected_calibration_error(reliability_table(truth, probabilities))
    return scores | ranking_scores(truth, probabilities)


def group_scores(truth: IntArray, probabilities: FloatArray) -> dict[str, float | int]:
    """Give ``num_faces, accuracy, macro_f1, balanced_accuracy, expected_calibration_error`` of a group of faces."""
    predicted = probabilities.argmax(axis=1)
    _, recall, f1, _ = precision_recall_fscore_support(truth, predicted, labels=np.unique(truth), zero_division=0)
    return {
        "num_faces": len(truth),
        "macro_f1": float(f1.mean()),
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(recall.mean()),
        "expected_calibration_error": expected_calibration_error(reliability_table(truth, probabilities)),
    }


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
