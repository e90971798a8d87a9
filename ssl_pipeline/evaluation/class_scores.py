"""Scores of one set of classes: per class, overall, and of a group of faces.

A set of classes is the joint classes or one attribute's values. Shapes: N faces, V classes. Only classes that occur in
the truth are scored, so that two models' averages on the same faces cover the same classes.
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
class PerClassScores:
    """Scores of the P classes that occur in the truth; each array is [P], scores are in [0, 1]."""

    class_ids: IntArray
    num_faces: IntArray
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    roc_auc: FloatArray
    """One class against the rest; NaN if only one class occurs."""
    average_precision: FloatArray
    """One class against the rest; NaN if only one class occurs."""

    @classmethod
    def compute(cls, truth: IntArray, probabilities: FloatArray) -> "PerClassScores":
        """Score probabilities, float64 [N, V], against the truth, int [N]; a class never predicted has precision 0."""
        present = np.unique(truth)
        precision, recall, f1, num_faces = precision_recall_fscore_support(
            truth, probabilities.argmax(axis=1), labels=present, zero_division=0
        )
        roc_auc = average_precision = np.full(len(present), np.nan)
        if len(present) > 1:
            is_class, class_probabilities = truth[:, None] == present, probabilities[:, present]
            roc_auc = roc_auc_score(is_class, class_probabilities, average=None)
            average_precision = average_precision_score(is_class, class_probabilities, average=None)
        return cls(present, num_faces, precision, recall, f1, roc_auc, average_precision)

    def to_dict(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """Return ``{name: {num_faces, precision, recall, f1, roc_auc, average_precision}}``; None where undefined.

        Args:
            names: of all V classes.
        """
        return {
            names[class_id]: {
                "num_faces": int(self.num_faces[row]),
                "precision": float(self.precision[row]),
                "recall": float(self.recall[row]),
                "f1": float(self.f1[row]),
                "roc_auc": _none_if_nan(self.roc_auc[row]),
                "average_precision": _none_if_nan(self.average_precision[row]),
            }
            for row, class_id in enumerate(self.class_ids)
        }


def overall_scores(truth: IntArray, probabilities: FloatArray, per_class: PerClassScores) -> dict[str, float | None]:
    """Compute every metric of `config.metrics` except the regression errors; `evaluation.metrics` defines them.

    Args:
        truth: int [N], in 0 … V-1.
        probabilities: float64 [N, V], rows sum to 1.
        per_class: scores of the same faces.
    """
    scores: dict[str, float | None] = {"accuracy": float(accuracy_score(truth, probabilities.argmax(axis=1)))}
    scores["balanced_accuracy"] = float(per_class.recall.mean())
    for name, values in (("precision", per_class.precision), ("recall", per_class.recall), ("f1", per_class.f1)):
        scores[f"macro_{name}"] = float(values.mean())
        scores[f"weighted_{name}"] = float(np.average(values, weights=per_class.num_faces))
    scores["roc_auc"] = _none_if_nan(per_class.roc_auc.mean())
    scores["average_precision"] = _none_if_nan(per_class.average_precision.mean())
    if probabilities.shape[1] > 1:  # scikit-learn refuses probabilities of a single class
        classes = range(probabilities.shape[1])
        scores["log_loss"] = float(log_loss(truth, probabilities, labels=classes))
        scores["brier_score"] = float(brier_score_loss(truth, probabilities, labels=classes, scale_by_half=False))
    else:
        scores["log_loss"] = scores["brier_score"] = None
    scores["expected_calibration_error"] = expected_calibration_error(reliability_table(truth, probabilities))
    return scores | ranking_scores(truth, probabilities)


def group_scores(truth: IntArray, probabilities: FloatArray) -> dict[str, float | int]:
    """Compute ``num_faces, accuracy, macro_f1, balanced_accuracy, expected_calibration_error`` of a group of faces."""
    predicted = probabilities.argmax(axis=1)
    _, recall, f1, _ = precision_recall_fscore_support(truth, predicted, labels=np.unique(truth), zero_division=0)
    return {
        "num_faces": len(truth),
        "macro_f1": float(f1.mean()),
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(recall.mean()),
        "expected_calibration_error": expected_calibration_error(reliability_table(truth, probabilities)),
    }


def _none_if_nan(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
