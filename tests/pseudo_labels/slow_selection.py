"""Slow reference implementations of the strategies, face by face."""

import math
from collections.abc import Callable

from ssl_pipeline.labels import UNKNOWN
from tests.pseudo_labels.test_manifest import SPACE

# face → (accepted, weight)
Decisions = dict[int, tuple[bool, float]]
# unlabeled face → the probabilities of the values
Probabilities = dict[int, list[float]]
Rule = Callable[[Probabilities], Decisions]

CODES = [divmod(class_id, 3) for class_id in range(6)]


def inside(row: list[float], known: list[int]) -> list[float]:
    """Condition a face's class probabilities on its known values."""
    kept = [
        p if all(k in (UNKNOWN, c) for k, c in zip(known, codes, strict=True)) else 0.0
        for p, codes in zip(row, CODES, strict=True)
    ]
    return [p / sum(kept) for p in kept]


def marginal(row: list[float], position: int) -> list[float]:
    return [
        sum(p for p, codes in zip(row, CODES, strict=True) if codes[position] == value)
        for value in range(SPACE.num_values[position])
    ]


def best(row: list[float]) -> tuple[int, float]:
    rounded = [round(p, 7) for p in row]
    return rounded.index(max(rounded)), max(rounded)


def unlabeled_probabilities(rows: list[list[float]], known: list[list[int]], per: str) -> list[Probabilities]:
    """The class probabilities of every face that is not fully known, or each attribute's where it is unknown."""
    posteriors = [inside(row, codes) for row, codes in zip(rows, known, strict=True)]
    if per == "class":
        return [{face: row for face, row in enumerate(posteriors) if UNKNOWN in known[face]}]
    return [
        {face: marginal(row, position) for face, row in enumerate(posteriors) if known[face][position] == UNKNOWN}
        for position in (0, 1)
    ]


def decisions(
    rows: list[list[float]], known: list[list[int]], per: str, rule: Callable[[Probabilities, int | None], Decisions]
) -> tuple[list[list[bool]], list[list[float]]]:
    """Apply a rule to the class or to every attribute; returns accepted and weights by face and attribute."""
    accepted, weights = [[False, False] for _ in rows], [[0.0, 0.0] for _ in rows]
    for column, probabilities in enumerate(unlabeled_probabilities(rows, known, per)):
        for face, (keep, weight) in rule(probabilities, None if per == "class" else column).items():
            for position in (0, 1) if per == "class" else (column,):
                if keep and known[face][position] == UNKNOWN:
                    accepted[face][position], weights[face][position] = True, weight
    return accepted, weights


def curriculum(probabilities: Probabilities, ids: list[str], round_index: int, step_percent: int) -> Decisions:
    order = sorted(probabilities, key=lambda face: (-best(probabilities[face])[1], ids[face]))
    hundredths = min(100, round_index * step_percent) * len(order)
    keep = hundredths // 100 + (hundredths % 100 > 0)
    return {face: (rank < keep, 1.0) for rank, face in enumerate(order)}


def self_adaptive(probabilities: Probabilities) -> Decisions:
    if not probabilities:
        return {}
    tau = math.fsum(best(row)[1] for row in probabilities.values()) / len(probabilities)
    mean = [math.fsum(column) / len(probabilities) for column in zip(*probabilities.values(), strict=True)]
    thresholds = [round(tau * m / max(mean), 7) for m in mean]
    return {face: (best(row)[1] >= thresholds[best(row)[0]], 1.0) for face, row in probabilities.items()}


def gaussian(probabilities: Probabilities, min_weight: float) -> Decisions:
    confidences = {face: best(row)[1] for face, row in probabilities.items()}
    mu = math.fsum(confidences.values()) / max(len(probabilities), 1)
    variance = math.fsum((c - mu) ** 2 for c in confidences.values()) / max(len(probabilities), 1)
    weights = {f: 1.0 if c >= mu else math.exp(-((mu - c) ** 2) / (2 * variance)) for f, c in confidences.items()}
    return {face: (weight >= min_weight, weight) for face, weight in weights.items()}


def agreement(probabilities: Probabilities, by_member: list[Probabilities], threshold: float, most: float) -> Decisions:
    result = {}
    for face, row in probabilities.items():
        value, confidence = best(row)
        answers = [member[face][value] for member in by_member]
        mean = math.fsum(answers) / len(answers)
        deviation = math.sqrt(math.fsum((a - mean) ** 2 for a in answers) / (len(answers) - 1))
        result[face] = (confidence >= threshold and round(deviation, 7) <= most, 1.0)
    return result


def passes_test(right: int, num: int, target: float, delta: float) -> bool:
    """Whether `right` or more of `num` have probability at most δ under a precision equal to the target."""
    tail = math.fsum(math.comb(num, k) * target**k * (1 - target) ** (num - k) for k in range(right, num + 1))
    return num > 0 and tail <= delta


def guaranteed(
    pool: list[tuple[int, float]], held_out: list[tuple[int, float, bool]], *, target: float, delta: float, grid: int
) -> dict[int, float | None]:
    """Return the threshold of each occurring value, None without a guarantee.

    Args:
        pool: value and confidence of each unlabeled face.
        held_out: value, confidence, and whether it is correct.
        target: the precision to guarantee.
        delta: δ.
        grid: thresholds to try.
    """
    needed = next(n for n in range(1, 10_000) if passes_test(n, n, target, delta))
    thresholds: dict[int, float | None] = {}
    for value in {value for value, _ in pool}:
        confidences = [c for v, c in pool if v == value]
        first = (
            min(max(2 * needed * len(pool) / len(held_out), len(confidences) / 10), len(confidences))
            if held_out
            else len(confidences)
        )
        thresholds[value] = None
        for step in range(grid):
            wanted = math.ceil(round(first + (len(confidences) - first) * step / max(grid - 1, 1), 9))
            threshold = next(
                t / 10_000 for t in range(10_000, -1, -1) if sum(c >= t / 10_000 for c in confidences) >= max(wanted, 1)
            )
            correct = [right for v, c, right in held_out if v == value and c >= threshold]
            if not passes_test(sum(correct), len(correct), target, delta):
                break
            thresholds[value] = threshold
    return thresholds
