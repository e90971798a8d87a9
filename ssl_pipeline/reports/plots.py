"""Plots of a training and of a model's scores as PNG: learning curves, confusion matrix, reliability, F1 per class.

With the same matplotlib, the same input gives the same bytes: files contain no time, version or user style.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import MaxNLocator

from ssl_pipeline.runs.files import atomic_path

SCORE_PICTURES = ("confusion.png", "reliability.png", "class_f1.png")

# Okabe and Ito's palette: distinguishable by color-blind readers, and in brightness.
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#E69F00", "#009E73", "#666666"
_STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.titlesize": "medium",
    "font.size": 9,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "savefig.dpi": 120,
    "text.parse_math": False,  # labels may contain dollar signs
}
_EAST_ASIAN_FONTS = (
    *("Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans KR", "NanumGothic", "Malgun Gothic"),
    *("Apple SD Gothic Neo", "AppleGothic", "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei"),
)
"""For what matplotlib's own font lacks; the first of them that this machine has."""
_TEXT_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # keeps a number readable over a line
_MAX_CELLS_WITH_COUNTS = 40
_MAX_NAME_LENGTH = 32


def plot_learning_curves(
    path: Path,
    history: pd.DataFrame,
    *,
    title: str,
    metric: str = "macro_f1",
    direction: Literal["max", "min"] = "max",
) -> None:
    """Plot loss, metric and learning rate over epochs (from 1), with the best epoch marked.

    Args:
        path: PNG to write.
        history: one row per epoch: ``epoch`` (from 0), ``learning_rate, train_loss, validation_loss`` and the metric.
        title: names the training.
        metric: the column that chose the best epoch; on a tie the first epoch is the best.
        direction: whether a higher or a lower metric is better.
    """
    epochs, values = history["epoch"].to_numpy() + 1, history[metric].to_numpy(np.float64)
    best = None
    if np.isfinite(values).any():
        best = int(np.nanargmax(values) if direction == "max" else np.nanargmin(values))
    with new_figure(path, width=7, height=7.2) as figure:
        loss, score, rate = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.6])
        marker = "o" if len(history) <= 40 else ""
        line = {"marker": marker, "markersize": 3, "linewidth": 1.5}
        loss.plot(epochs, history["train_loss"], color=BLUE, label="training", **line)
        loss.plot(epochs, history["validation_loss"], color=ORANGE, label="validation", linestyle="--", **line)
        score.plot(epochs, values, color=ORANGE, label=f"validation {_words(metric)}", linestyle="--", **line)
        rate.plot(epochs, history["learning_rate"], color=GREEN, **line)
        if best is not None:
            for axes in (loss, score, rate):
                axes.axvline(epochs[best], color=GRAY, linewidth=1, linestyle=":")
            label = f"best: {values[best]:.3f} in epoch {epochs[best]}"
            score.plot(epochs[best], values[best], "*", color=GRAY, markersize=13, label=label)
        loss.set(ylabel="loss", title=title)
        score.set(ylabel=_words(metric))
        rate.set(ylabel="learning rate", xlabel="epoch")
        rate.set_ylim(bottom=0)
        rate.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
        rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for axes in (loss, score):
            axes.legend(loc="best")


def plot_confusion_matrix(path: Path, counts: Sequence[Sequence[int]], names: Sequence[str], *, title: str) -> None:
    """Plot a confusion matrix: color is the share of the true class, text the count; zero counts are blank.

    Args:
        path: PNG to write.
        counts: [V, V], true classes in rows, predicted classes in columns.
        names: class names, [V].
        title: names the model and the faces.
    """
    table, size = np.asarray(counts), len(names)
    totals = table.sum(axis=1, keepdims=True)
    shares = np.where(totals > 0, table / np.maximum(totals, 1), np.nan)
    side = min(max(0.42 * size, 2.4), 14.0)
    labels = [_short(name) for name in names]
    margin = 1.2 + 0.075 * max(map(len, labels))
    with new_figure(path, width=side + margin + 0.9, height=side + margin) as figure:
        axes = figure.subplots()
        axes.grid(visible=False)
        axes.set_facecolor("#eeeeee")  # shows for classes that do not occur
        image = axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=1)
        if size <= _MAX_CELLS_WITH_COUNTS:
            font_size = 9 if table.max(initial=0) < 10_000 and size <= 20 else 6
            for row, column in zip(*np.nonzero(table), strict=True):
                color = "white" if shares[row, column] > 0.55 else "black"
                text_style: dict[str, Any] = {"ha": "center", "va": "center", "color": color, "fontsize": font_size}
                axes.text(column, row, f"{table[row, column]}", **text_style)
            axes.set_xticks(range(size), labels, rotation=90 if max(map(len, labels)) > 5 else 0)
            axes.set_yticks(range(size), labels)
        axes.set(xlabel="predicted", ylabel="true")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        figure.suptitle(title)
        bar = figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8, aspect=25)
        bar.outline.set_visible(False)


def plot_reliability(path: Path, bins: Sequence[Mapping[str, Any]], *, error: float, title: str) -> None:
    """Plot accuracy over confidence with the diagonal of a calibrated model, and the number of faces per bin.

    Args:
        path: PNG to write.
        bins: ``lower, upper, num_faces, confidence, accuracy``; the last two are None in an empty bin.
        error: expected calibration error, in [0, 1].
        title: names the model and the faces.
    """
    filled = [row for row in bins if row["num_faces"]]
    confidence, accuracy = ([row[name] for row in filled] for name in ("confidence", "accuracy"))
    lower = [row["lower"] for row in filled]
    widths = [row["upper"] - row["lower"] for row in filled]
    counts = [row["num_faces"] for row in filled]
    with new_figure(path, width=5.6, height=6.4) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        bars = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}
        above.bar(lower, accuracy, widths, color=BLUE, label="accuracy", **bars)
        above.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1.2, label="calibrated")
        above.plot(confidence, confidence, "o", color=ORANGE, markersize=5, label="mean confidence")
        above.vlines(confidence, accuracy, confidence, color=ORANGE, linewidth=1.5)
        above.set(ylabel="accuracy", ylim=(0, 1.02), xlim=(0, 1))
        above.set_title(f"{title}\nexpected calibration error {100 * error:.1f} %, {sum(counts):,} faces")
        above.legend(loc="upper left")
        below.bar(lower, counts, widths, color=GRAY, **bars)
        for left, width, count in zip(lower, widths, counts, strict=True):
            text_style = {"ha": "center", "va": "bottom", "fontsize": 7}
            below.annotate(_compact(count), (left + width / 2, count), (0, 1), textcoords="offset points", **text_style)
        below.set(ylabel="faces", xlabel="confidence", ylim=(0, 1.2 * max(counts, default=1)))
        below.yaxis.set_major_locator(MaxNLocator(3, integer=True))


def plot_class_f1(path: Path, models: Mapping[str, Mapping[str, Mapping[str, Any]]], *, title: str) -> None:
    """Plot the F1 of each class as a bar per model, with the number of faces per class.

    Args:
        path: PNG to write.
        models: ``{class: {num_faces, f1}}`` by model name, all on the same faces.
        title: names the models and the faces.
    """
    classes = list(dict.fromkeys(name for per_class in models.values() for name in per_class))
    num_faces = {name: row["num_faces"] for per_class in models.values() for name, row in per_class.items()}
    height = 0.8 / len(models)
    rows = len(classes) * (0.24 + 0.09 * (len(models) - 1))
    with new_figure(path, width=6.5, height=min(rows + 1.3, 40)) as figure:
        axes = figure.subplots()
        for index, (model, color) in enumerate(zip(models, (BLUE, ORANGE, GREEN, GRAY), strict=False)):
            values = [models[model][name]["f1"] if name in models[model] else 0.0 for name in classes]
            positions = np.arange(len(classes)) - 0.4 + height * (index + 0.5)
            axes.barh(positions, values, height, color=color, label=f"{model}: mean {np.mean(values):.3f}")
            axes.axvline(float(np.mean(values)), color=color, linestyle=":", linewidth=1.5)
            for position, value in zip(positions, values, strict=True):
                text_style: dict[str, Any] = {"va": "center", "size": 7 if len(models) == 1 else 6, "bbox": _TEXT_BOX}
                axes.annotate(f"{value:.2f}", (value, position), (3, 0), textcoords="offset points", **text_style)
        axes.set_yticks(range(len(classes)), [f"{_short(name)}  ({num_faces[name]:,})" for name in classes])
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set(xlim=(0, 1.08), xlabel="F1 (dotted: mean over classes)", ylabel="class (faces)")
        axes.grid(visible=False, axis="y")
        figure.suptitle(title)
        figure.legend(loc="outside lower center", ncols=len(models))


def plot_scores(directory: Path, scores: Mapping[str, Any], *, title: str) -> None:
    """Plot `SCORE_PICTURES` of the joint scores of `evaluation.metrics.evaluate_predictions`."""
    confusion, reliability, class_f1 = (directory / name for name in SCORE_PICTURES)
    matrix, error = scores["confusion_matrix"], scores["expected_calibration_error"]
    plot_confusion_matrix(confusion, matrix["counts"], matrix["names"], title=f"{title}: faces by class")
    plot_reliability(reliability, scores["reliability"], error=error, title=title)
    plot_class_f1(class_f1, {"F1": scores["per_class"]}, title=f"{title}: F1 by class")


@contextmanager
def new_figure(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """Yield a figure, width and height in inches, and save it unless the block raises."""
    with style.context(["default", _STYLE, {"font.family": _fonts()}]):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        save_figure(figure, path)


@cache
def _fonts() -> list[str]:
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in _EAST_ASIAN_FONTS if name in installed][:1]]


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically; the same figure gives the same bytes.

    A character that no font here has, e.g. of a Korean value, is a box, without a warning on the user's screen.
    """
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("f1", "F1")


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 1]}…"


def _compact(count: int) -> str:
    return f"{count}" if count < 1000 else f"{count / 1000:.{0 if count >= 10_000 else 1}f}k"
