"""Reliability table over confidence bins, and the expected calibration error."""

from typing import Any

import numpy as np

from ssl_pipeline.labels import FloatArray, IntArray

NUM_BINS = 15
Reliability = list[dict[str, Any]]


def reliability_table(truth: IntArray, probabilities: FloatArray, *, num_bins: int = NUM_BINS) -> Reliability:
    """Compare confidence with accuracy per bin (Guo et al., arXiv:1706.04599, section 2).

    A face's confidence is its largest probability. Bin m of M holds the confidences in ((m-1)/M, m/M].

    Args:
        truth: int [N], in 0 … V-1.
        probabilities: float [N, V], rows sum to 1.
        num_bins: M.

    Returns:
        Per bin ``lower, upper, num_faces, confidence, accuracy``; the last two are means over the bin's faces, None if
        it is empty.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    is_correct = probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.digitize(confidence, edges[1:-1], right=True)
    counts, confidence_sums, correct_sums = (
        np.bincount(bins, weights=values, minlength=num_bins)
        for values in (np.ones(len(truth)), confidence, is_correct.astype(np.float64))
    )
    return [
        {
            "lower": float(edges[index]),
            "upper": float(edges[index + 1]),
            "num_faces": int(counts[index]),
            "confidence": float(confidence_sums[index] / counts[index]) if counts[index] else None,
            "accuracy": float(correct_sums[index] / counts[index]) if counts[index] else None,
        }
        for index in range(num_bins)
    ]


def expected_calibration_error(reliability: Reliability) -> float:
    """Average the gap between accuracy and confidence over bins: Σ_m n_m / N · |accuracy_m - confidence_m|, in [0, 1].

    Few faces per bin bias it upwards: a perfectly calibrated model scores above 0 on a small set.
    """
    filled = [row for row in reliability if row["num_faces"]]
    num_faces = sum(row["num_faces"] for row in filled)
    gaps = (row["num_faces"] * abs(row["accuracy"] - row["confidence"]) for row in filled)
    return float(sum(gaps) / num_faces)
