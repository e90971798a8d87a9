"""The tables of `benchmarks.pool`, as Markdown."""

from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np

from benchmarks import tables
from benchmarks.tables import Json

CONTROL, CEILING = "control", "all true labels"
_NUM_DRAWS = 10_000
BySeed = Mapping[int, Mapping[str, Json]]
"""Per seed and row, its result."""


def report(results: BySeed, *, rows: Sequence[str], provenance: str) -> str:
    """Lay out the results; rows that a seed lacks are left out of its means.

    Args:
        results: those of `benchmarks.pool.measure_seed`.
        rows: in the order of the table; the first is that of the teachers together.
        provenance: the beginning of the first paragraph.
    """
    first = next(iter(results.values()))[rows[0]]
    counts, names = first["counts"], list(first["test"]["per_attribute"])
    lines = []
    for member in first["members"]:
        alone = {
            seed: {member: {**of_seed[rows[0]], "test": of_seed[rows[0]]["members"][member]}}
            for seed, of_seed in results.items()
        }
        lines.append(_row(f"*{member} alone*", alone, member, names))
    lines += [_row(row, results, row, names) for row in rows if any(row in of_seed for of_seed in results.values())]
    header = ["", "seeds", "macro F1", "accuracy", *(f"{name} accuracy" for name in names), "mean of the attributes"]
    header += ["minutes", "gap closed, macro F1", "gap closed, attributes", "above the control"]
    return "\n".join(
        [
            f"{provenance}; {counts['labeled']['train']} faces to train on, {counts['labeled']['validation']} for "
            f"validation, {counts['labeled']['test']} to test on, {counts['unlabeled']:,} in the pool. Percent on the test "
            "split, mean over the seeds. *Gap closed* is (row − control) / (all true labels − control), both means over "
            "seeds, with its 95 % bootstrap interval over seeds. *Above the control* counts the seeds in which the mean of "
            "the attributes' accuracies is above the control's. Minutes are of one processor core, for all that the row "
            "adds to the teachers together (theirs: for preparing, training and predicting).",
            "",
            *tables.markdown_table(header, "lr" + "r" * (len(names) + 7), lines),
            "",
            *_by_seed(results, rows),
        ]
    )


def attribute_mean(scores: Json) -> float:
    """Return the mean of the attributes' accuracies, in percent."""
    return 100 * mean(float(attribute["accuracy"]) for attribute in scores["per_attribute"].values())


def gap_closed(row: Sequence[float], control: Sequence[float], ceiling: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean gain as a share of the mean gap, and the ends of its 95 % percentile interval over seeds.

    >>> [round(value, 2) for value in gap_closed([2, 3], [1, 2], [5, 6])]
    [0.25, 0.25, 0.25]
    """
    gains, gaps = np.subtract(row, control), np.subtract(ceiling, control)
    drawn = np.random.default_rng(0).integers(len(gains), size=(_NUM_DRAWS, len(gains)))
    shares = gains[drawn].mean(axis=1) / gaps[drawn].mean(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(gains.mean() / gaps.mean()), float(low), float(high)


def _row(name: str, results: BySeed, row: str, names: Sequence[str]) -> list[str]:
    own = [of_seed[row] for of_seed in results.values() if row in of_seed]
    scores = [one["test"] for one in own]
    cells = [name, str(len(own)), tables.mean_percent(scores, "macro_f1"), tables.mean_percent(scores, "accuracy")]
    cells += [tables.mean_percent(scores, "per_attribute", attribute, "accuracy") for attribute in names]
    cells += [f"{mean(map(attribute_mean, scores)):.1f}", _processor_minutes(own)]
    compared = [of_seed for of_seed in results.values() if {row, CONTROL, CEILING} <= set(of_seed)]
    if row in (CONTROL, CEILING) or not compared:
        return [*cells, "", "", ""]
    of_rows = [[of_seed[kind]["test"] for of_seed in compared] for kind in (row, CONTROL, CEILING)]
    f1 = [tables.percent(kind, "macro_f1") for kind in of_rows]
    attributes = [[attribute_mean(one) for one in kind] for kind in of_rows]
    above = sum(mine > other for mine, other in zip(*attributes[:2], strict=True))
    return [*cells, _share(gap_closed(*f1)), _share(gap_closed(*attributes)), f"{above} of {len(compared)}"]


def _processor_minutes(results: Sequence[Json]) -> str:
    """Return the mean over the results that were measured in one go."""
    seconds = [one["processor_seconds"] for one in results if one.get("processor_seconds") is not None]
    return f"{mean(seconds) / 60:.1f}" if seconds else ""


def _share(gap: tuple[float, float, float]) -> str:
    value, low, high = gap
    return f"{100 * value:.0f} % ({100 * low:.0f} … {100 * high:.0f})"


def _by_seed(results: BySeed, rows: Sequence[str]) -> list[str]:
    """Lay out the mean of the attributes' accuracies and macro F1, seed by seed."""
    lines = []
    for row in rows:
        cells = [
            "–"
            if row not in one
            else f"{attribute_mean(one[row]['test']):.1f}, {100 * one[row]['test']['macro_f1']:.1f}"
            for one in results.values()
        ]
        lines.append([row, *cells])
    header = ["mean of the attributes' accuracies, macro F1", *(f"seed {seed}" for seed in results)]
    return tables.markdown_table(header, "l" + "r" * len(results), lines)
