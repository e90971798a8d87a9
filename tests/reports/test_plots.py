"""Plots: valid files, the same bytes from the same input, and unusual input."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ssl_pipeline.reports import plots
from ssl_pipeline.reports.plots import (
    SCORE_PICTURES,
    plot_class_f1,
    plot_confusion_matrix,
    plot_learning_curves,
    plot_reliability,
    plot_scores,
)


def history(num_epochs: int = 5, **columns: Any) -> pd.DataFrame:
    epochs = np.arange(num_epochs)
    curves = {
        "epoch": epochs,
        "learning_rate": 0.1 / (epochs + 1),
        "train_loss": 1 / (epochs + 1),
        "validation_loss": 1.5 / (epochs + 1),
        "macro_f1": 1 - 0.5 / (epochs + 1),
    }
    return pd.DataFrame(curves | columns)


def bins(*counts: int) -> list[dict[str, Any]]:
    width = 1 / len(counts)
    return [
        {
            "lower": index * width,
            "upper": (index + 1) * width,
            "num_faces": count,
            "confidence": (index + 0.5) * width if count else None,
            "accuracy": (index + 0.3) * width if count else None,
        }
        for index, count in enumerate(counts)
    ]


def per_class(num_classes: int, *, f1: float = 0.7) -> dict[str, dict[str, Any]]:
    return {f"class {number}": {"num_faces": 10 + number, "f1": f1} for number in range(num_classes)}


def scores(num_classes: int) -> dict[str, Any]:
    names = [f"class {number}" for number in range(num_classes)]
    counts = np.random.default_rng(0).integers(0, 9, size=(num_classes, num_classes)).tolist()
    return {
        "confusion_matrix": {"names": names, "counts": counts},
        "reliability": bins(0, 3, 5),
        "expected_calibration_error": 0.1,
        "per_class": per_class(num_classes),
    }


Draw = Callable[[Path], None]
PICTURES: dict[str, Draw] = {
    "curves": lambda path: plot_learning_curves(path, history(), title="teacher"),
    "curves of one epoch": lambda path: plot_learning_curves(path, history(1), title="teacher"),
    "curves of many epochs": lambda path: plot_learning_curves(path, history(300), title="teacher"),
    "curves without a validation": lambda path: plot_learning_curves(
        path, history(validation_loss=np.nan, macro_f1=np.nan), title="teacher"
    ),
    "curves with values that are not finite": lambda path: plot_learning_curves(
        path, history(train_loss=[1, 2, np.inf, np.nan, np.nan], macro_f1=[0.1, np.nan, 0.3, np.nan, 0.2]), title="x"
    ),
    "confusion": lambda path: plot_confusion_matrix(path, [[5, 1], [0, 3]], ["a", "b"], title="teacher"),
    "confusion of one class": lambda path: plot_confusion_matrix(path, [[5]], ["a"], title="teacher"),
    "confusion with an absent class": lambda path: plot_confusion_matrix(path, [[5, 1], [0, 0]], ["a", "b"], title="x"),
    "confusion of many classes": lambda path: plot_confusion_matrix(
        path, np.eye(60, dtype=int).tolist(), [f"class {number}" for number in range(60)], title="teacher"
    ),
    "confusion of unusual names": lambda path: plot_confusion_matrix(
        path, [[5, 1], [0, 3]], ["$\\frac$", "_" + "long" * 30], title="$x_"
    ),
    "reliability": lambda path: plot_reliability(path, bins(0, 4, 12_345), error=0.2, title="teacher"),
    "reliability of one face": lambda path: plot_reliability(path, bins(0, 0, 1), error=0.2, title="teacher"),
    "F1": lambda path: plot_class_f1(path, {"F1": per_class(6)}, title="teacher"),
    "F1 of one class": lambda path: plot_class_f1(path, {"F1": per_class(1, f1=0.0)}, title="teacher"),
    "F1 of teacher and student": lambda path: plot_class_f1(
        path, {"teacher": per_class(18), "student": per_class(18, f1=1.0)}, title="both"
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES.keys())
def test_a_plot_is_a_png_of_reasonable_size(draw: Draw, tmp_path: Path) -> None:
    draw(tmp_path / "deep" / "picture.png")
    with Image.open(tmp_path / "deep" / "picture.png") as image:
        assert image.format == "PNG"
        assert all(150 <= side <= 5000 for side in image.size)
        assert len(image.convert("L").getcolors() or []) > 5  # not blank
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["picture.png"]


@pytest.mark.filterwarnings("error")
def test_a_value_that_the_font_cannot_show_warns_of_nothing(tmp_path: Path) -> None:
    plot_confusion_matrix(tmp_path / "matrix.png", [[1, 2], [3, 4]], ["남자", "여자"], title="남자, 여자")


@pytest.mark.parametrize("kind", ["curves", "confusion", "reliability", "F1 of teacher and student"])
def test_the_same_input_gives_the_same_bytes_whatever_the_users_style(kind: str, tmp_path: Path) -> None:
    PICTURES[kind](tmp_path / "first.png")
    with mpl.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 30}):
        PICTURES[kind](tmp_path / "second.png")
        assert mpl.rcParams["font.size"] == 20  # unchanged
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    with Image.open(tmp_path / "first.png") as image:
        assert not {"Software", "Creation Time"} & set(image.info)


def test_the_direction_of_the_metric_decides_which_epoch_is_marked(tmp_path: Path) -> None:
    plot_learning_curves(tmp_path / "max.png", history(), title="teacher", direction="max")
    plot_learning_curves(tmp_path / "min.png", history(), title="teacher", direction="min")
    assert (tmp_path / "max.png").read_bytes() != (tmp_path / "min.png").read_bytes()


def test_curves_count_epochs_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
    plot_learning_curves(tmp_path / "curves.png", history(5), title="teacher", direction="max")
    loss, score, rate = figures[0].axes
    assert [list(axes.lines[0].get_xdata()) for axes in (loss, score, rate)] == [[1, 2, 3, 4, 5]] * 3
    assert "in epoch 5" in score.get_legend_handles_labels()[1][1]


@pytest.mark.parametrize("num_classes", [6, 18])
def test_the_scores_of_a_model_give_three_plots(num_classes: int, tmp_path: Path) -> None:
    plot_scores(tmp_path, scores(num_classes), title="teacher on test")
    assert {path.name for path in tmp_path.iterdir()} == set(SCORE_PICTURES)


def test_plots_use_one_east_asian_font_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [SimpleNamespace(name=name) for name in ("Other", "NanumGothic", "Noto Sans CJK JP")]
    monkeypatch.setattr(plots, "fontManager", SimpleNamespace(ttflist=installed))
    assert plots._fonts.__wrapped__() == ["DejaVu Sans", "Noto Sans CJK JP"]
    monkeypatch.setattr(plots, "fontManager", SimpleNamespace(ttflist=installed[:1]))
    assert plots._fonts.__wrapped__() == ["DejaVu Sans"]
