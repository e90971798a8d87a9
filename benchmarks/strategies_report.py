"""The tables of `benchmarks.strategies`, as Markdown."""

from collections.abc import Mapping, Sequence
from statistics import mean

from benchmarks import tables
from benchmarks.tables import Json

BASE, ALL_TRUE = "base", "all true labels"
"""Rows that are no strategy: the teachers, and the student of all true labels."""


def report(by_row: Mapping[str, Sequence[Json]], *, provenance: str) -> str:
    """Lay out the results.

    Args:
        by_row: per row the result of each seed; `BASE` and `ALL_TRUE` among them.
        provenance: the beginning of the first paragraph.
    """
    base, counts = by_row[BASE], by_row[BASE][0]["counts"]
    names = list(base[0]["test"]["per_attribute"])
    teacher = tables.percent(base, "test", "macro_f1")
    gap = mean(tables.differences(tables.percent(by_row[ALL_TRUE], "test", "macro_f1"), teacher))
    blank = [""] * (len(names) + 3)

    def scores(macro_f1: Sequence[float]) -> list[str]:
        gains = tables.differences(macro_f1, teacher)
        return [f"{mean(macro_f1):.1f}", tables.mean_and_spread(gains), f"{100 * mean(gains) / gap:.0f} %"]

    rows = [["*one teacher*", *blank, f"{mean(teacher):.1f}", "", ""]]
    if base[0]["together"] is not None:
        rows.append(["*teachers together*", *blank, *scores(tables.percent(base, "together", "macro_f1"))])
    for row, results in by_row.items():
        if row != BASE:
            cells, name = (blank, f"*{row}*") if row == ALL_TRUE else (_accepted_cells(results, names), row)
            rows.append([name, *cells, *scores(tables.percent(results, "test", "macro_f1"))])
    header = ["selection", "faces accepted", *(f"{name}: accepted, precision" for name in names), "joint precision"]
    header += ["starved", "macro F1", "gain over the teacher", "gap closed"]
    lines = [
        f"{provenance}; {counts['labeled']['train']} faces to train on, {counts['labeled']['validation']} for validation, "
        f"{counts['labeled']['test']} to test on, {counts['unlabeled']:,} in the pool, whose labels are hidden. "
        f"{_labeler(base)} and every strategy chooses among the same predictions. Every student has the same network, "
        "settings and number of steps. Figures are percent, mean over the seeds; gains in macro F1 on the test split over "
        "the one teacher, seed by seed in brackets. *Gap closed* is the gain divided by that of the same student on all "
        "true labels. A value is starved if its share of accepted labels is below a fifth of its share of the training "
        "faces, in any seed.",
        "",
        *tables.markdown_table(header, "lr" + "r" * len(names) + "rlrrr", rows),
        *_calibration(base, names),
    ]
    return "\n".join(lines)


def _labeler(base: Sequence[Json]) -> str:
    if base[0]["together"] is not None:
        return (
            "One teacher is the baseline; the pool is labeled by the teachers of `out_of_fold` together, calibrated on the "
            "faces that each did not see,"
        )
    calibrated = "calibrated on the validation faces" if base[0]["calibration"] else "not calibrated"
    return f"The baseline is the one teacher that labels the pool, {calibrated},"


def _accepted_cells(results: Sequence[Json], names: Sequence[str]) -> list[str]:
    """Format the counts and precisions of the accepted labels, and the starved values."""
    starved = sorted({value for result in results for value in result["starved"]})
    return [
        f"{mean(result['counts']['accepted'] for result in results):,.0f}",
        *(f"{mean(r['labels'][name] for r in results):,.0f}, {_precision(results, name)}" for name in names),
        _precision(results, "joint"),
        ", ".join(starved).replace("<", "&lt;"),
    ]


def _precision(results: Sequence[Json], name: str) -> str:
    unknown = any(result["precision"][name]["precision"] is None for result in results)
    return "–" if unknown else tables.mean_percent(results, "precision", name, "precision")


def _calibration(base: Sequence[Json], names: Sequence[str]) -> list[str]:
    if not all(result["together"] and result["calibration"] and "before" in result["calibration"] for result in base):
        return []
    rows = []
    for position, name in enumerate(("class", *names)):
        keys = () if name == "class" else ("per_attribute", name)
        cells = []
        for metric, scale, digits in (
            ("expected_calibration_error", 1, 1),
            ("brier_score", 100, 3),
            ("log_loss", 100, 3),
        ):
            before, after = (
                mean(tables.percent(base, "calibration", when, *keys, metric)) / scale for when in ("before", "after")
            )
            cells.append(f"{before:.{digits}f} → {after:.{digits}f}")
        temperatures = (result["calibration"]["temperatures"] for result in base)
        of_name = "" if name == "class" else ", ".join(f"{one[position - 1]:.2f}" for one in temperatures)
        rows.append([name, *cells, of_name])
    header = ["", "calibration error", "Brier score", "log loss", "temperatures, seed by seed"]
    return [
        "",
        "**Calibration out of fold**",
        "",
        "Before and after. Each training face is predicted by the teacher that did not see it, and calibrated by "
        "temperatures that were fitted without it; mean over the seeds.",
        "",
        *tables.markdown_table(header, "lrrrl", rows),
    ]
