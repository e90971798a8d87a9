"""Reliability diagrams before and after calibration, one column for the class and one per attribute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_pipeline.reports.plots import BLUE, GRAY, ORANGE, new_figure


def plot_calibration(path: Path, report: Mapping[str, Any], *, title: str) -> None:
    """Plot accuracy over confidence, with the diagonal of a calibrated model.

    Args:
        path: PNG to write.
        report: result of `evaluation.temperature_fit.calibration_report`.
        title: names the faces.
    """
    columns = {"class": report} | {
        name: {when: report[when]["per_attribute"][name] for when in ("before", "after")}
        for name in report["before"]["per_attribute"]
    }
    with new_figure(path, width=2.6 * len(columns) + 0.6, height=5.4) as figure:
        grid = figure.subplots(2, len(columns), sharex=True, sharey=True, squeeze=False)
        for (row, when), color in zip(enumerate(("before", "after")), (ORANGE, BLUE), strict=True):
            for axes, (name, scores) in zip(grid[row], columns.items(), strict=True):
                bins = [row for row in scores[when]["reliability"] if row["num_faces"]]
                num_faces = sum(row["num_faces"] for row in bins)
                axes.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1.2)
                sizes = [4 + 200 * row["num_faces"] / num_faces for row in bins]
                confidence, accuracy = ([row[key] for row in bins] for key in ("confidence", "accuracy"))
                axes.plot(confidence, accuracy, color=color, linewidth=1)
                axes.scatter(confidence, accuracy, sizes, color=color)
                error = 100 * scores[when]["expected_calibration_error"]
                axes.set_title(f"{name}, {when}: ECE {error:.1f} %", fontsize=9)
                axes.set(xlim=(0, 1), ylim=(0, 1.02))
            grid[row][0].set(ylabel="accuracy")
        for axes in grid[1]:
            axes.set(xlabel="confidence")
        figure.suptitle(f"{title} (point size: number of faces)")
