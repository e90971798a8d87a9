"""Every strategy once more, face by face and in the plainest words, to hold the fast one against."""

import math
from collections.abc import Callable

from ssl_pipeline.labels import UNKNOWN
from tests.pseudo_labels.test_manifest import SPACE

# what a reference decides: face → (accepted, weight)
Decisions = dict[int, tuple[bool, float]]
# a question: face → the probabilities of the values
Asked = dict[int, list[float]]
Rule = Callable[[Asked], Decisions]

CODES = [divmod(class_id, 3) for class_id in range(6)]


def inside(row: list[float], known: list[int]) -> list[float]:
    """A face's class probabilities inside what is known of it."""
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


def questions(rows: list[list[float]], known: list[list[int]], per: str) -> list[Asked]:
    """What is to be decided: the class of every face not wholly known, or each attribute where it is unknown."""
    posteriors = [inside(row, codes) for row, codes in zip(rows, known, strict=True)]
    if per == "class":
        return [{face: row for face, row in enumerate(posteriors) if UNKNOWN in known[face]}]
    return [
        {face: marginal(row, place) for face, row in enumerate(posteriors) if known[face][place] == UNKNOWN}
        for place in (0, 1)
    ]


def decisions(
    rows: list[list[float]], known: list[list[int]], per: str, rule: Callable[[Asked, int | None], Decisions]
) -> tuple[list[list[bool]], list[list[float]]]:
    """Apply a rule to every question; what it accepts, and its weights, by face and attribute."""
    accepted, weights = [[False, False] for _ in rows], [[0.0, 0.0] for _ in rows]
    for place, asked in enumerate(questions(rows, known, per)):
        for face, (keep, weight) in rule(asked, None if per == "class" else place).items():
            for position in (0, 1) if per == "class" else (place,):
                if keep and known[face][position] == UNKNOWN:
                    accepted[face][position], weights[face][position] = True, weight
    return accepted, weights


def curriculum(asked: Asked, ids: list[str], round_index: int, step_percent: int) -> Decisions:
    order = sorted(asked, key=lambda face: (-best(asked[face])[1], ids[face]))
    hundredths = min(100, round_index * step_percent) * len(order)
    keep = hundredths // 100 + (hundredths % 100 > 0)
    return {face: (place < keep, 1.0) for place, face in enumerate(order)}


def self_adaptive(asked: Asked) -> Decisions:
    if not asked:
        return {}
    tau = math.fsum(best(row)[1] for row in asked.values()) / len(asked)
    mean = [math.fsum(column) / len(asked) for column in zip(*asked.values(), strict=True)]
    thresholds = [round(tau * m / max(mean), 7) for m in mean]
    return {face: (best(row)[1] >= thresholds[best(row)[0]], 1.0) for face, row in asked.items()}


def gaussian(asked: Asked, min_weight: float) -> Decisions:
    confidences = {face: best(row)[1] for face, row in asked.items()}
    mu = math.fsum(confidences.values()) / max(len(asked), 1)
    variance = math.fsum((c - mu) ** 2 for c in confidences.values()) / max(len(asked), 1)
    weights = {f: 1.0 if c >= mu else math.exp(-((mu - c) ** 2) / (2 * variance)) for f, c in confidences.items()}
    return {face: (weight >= min_weight, weight) for face, weight in weights.items()}


def agreement(asked: Asked, by_member: list[Asked], threshold: float, most: float) -> Decisions:
    result = {}
    for face, row in asked.items():
        value, confidence = best(row)
        answers = [member[face][value] for member in by_member]
        mean = math.fsum(answers) / len(answers)
        deviation = math.sqrt(math.fsum((a - mean) ** 2 for a in answers) / (len(answers) - 1))
        result[face] = (confidence >= threshold and round(deviation, 7) <= most, 1.0)
    return result


def keeps_promise(right: int, num: int, target: float, delta: float) -> bool:
    """Were the precision no better than the target, so many right or more would have probability δ at most."""
    tail = math.fsum(math.comb(num, k) * target**k * (1 - target) ** (num - k) for k in range(right, num + 1))
    return num > 0 and tail <= delta


def guaranteed(
    pool: list[tuple[int, float]], held_out: list[tuple[int, float, bool]], *, target: float, delta: float, grid: int
) -> dict[int, float | None]:
    """The threshold of each value that occurs, None without guarantee.

    Args:
        pool: value and confidence of each face to decide.
        held-out: value, confidence, and whether it is right.
        target: to guarantee.
        delta: δ.
        grid: thresholds to try.
    """
    needed = next(n for n in range(1, 10_000) if keeps_promise(n, n, target, delta))
    thresholds: dict[int, float | None] = {}
    for value in {value for value, _ in pool}:
        mine = [c for v, c in pool if v == value]
        first = min(max(2 * needed * len(pool) / len(held_out), len(mine) / 10), len(mine)) if held_out else len(mine)
        thresholds[value] = None
        for step in range(grid):
            wanted = math.ceil(round(first + (len(mine) - first) * step / max(grid - 1, 1), 9))
            threshold = next(
                t / 10_000 for t in range(10_000, -1, -1) if sum(c >= t / 10_000 for c in mine) >= max(wanted, 1)
            )
            heard = [right for v, c, right in held_out if v == value and c >= threshold]
            if not keeps_promise(sum(heard), len(heard), target, delta):
                break
            thresholds[value] = threshold
    return thresholds
