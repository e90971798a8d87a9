"""Reliability before and after calibration, of the class and of each attribute, side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_pipeline.reports.plots import BLUE, GRAY, ORANGE, new_figure


def plot_calibration(path: Path, report: Mapping[str, Any], *, title: str) -> None:
    """Draw accuracy by confidence against the diagonal of a calibrated model.

    Args:
        path: of the PNG to write.
        report: as `learning.calibration.calibration_report` gives it.
        title: which faces.
    """
    columns = {"class": report} | {
        name: {when: report[when]["per_attribute"][name] for when in ("before", "after")}
        for name in report["before"]["per_attribute"]
    }
    with new_figure(path, width=2.6 * len(columns) + 0.6, height=5.4) as figure:
        grid = figure.subplots(2, len(columns), sharex=True, sharey=True, squeeze=False)
        for (row, when), color in zip(enumerate(("before", "after")), (ORANGE, BLUE), strict=True):
            for axes, (name, scores) in zip(grid[row], columns.items(), strict=True):
                bins = [one for one in scores[when]["reliability"] if one["num_faces"]]
                axes.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1.2)
                sizes = [4 + 200 * one["num_faces"] / sum(other["num_faces"] for other in bins) for one in bins]
                confidence, accuracy = ([one[key] for one in bins] for key in ("confidence", "accuracy"))
                axes.plot(confidence, accuracy, color=color, linewidth=1)
                axes.scatter(confidence, accuracy, sizes, color=color)
                error = 100 * scores[when]["expected_calibration_error"]
                axes.set_title(f"{name}, {when}: ECE {error:.1f} %", fontsize=9)
                axes.set(xlim=(0, 1), ylim=(0, 1.02))
            grid[row][0].set(ylabel="accuracy")
        for axes in grid[1]:
            axes.set(xlabel="confidence")
        figure.suptitle(f"{title} (points: by number of faces)")
