"""The picture of a schedule shows each step's learning rate, and says in words what it shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_pipeline.reports.plots import save_figure
from ssl_pipeline.reports.schedule_plot import describe_schedule, plot_schedule
from tests.conftest import make_role

FALLING = np.array([0.1] * 4 + [0.001] * 4)


def draw(curves: dict[str, np.ndarray], **settings: Any) -> Any:
    words = {"title": "a title", "subtitle": "a subtitle", "steps_per_epoch": 4, "frozen_epochs": 0}
    return plot_schedule(curves, **{**words, **settings})


def test_each_step_is_drawn_at_its_place_in_epochs_and_holds_until_the_next() -> None:
    (line,) = draw({"learning rate": FALLING}).axes[0].lines
    assert line.get_xdata() == pytest.approx(np.arange(9) / 4)
    assert line.get_ydata() == pytest.approx([*FALLING, FALLING[-1]])
    assert line.get_drawstyle() == "steps-post"


def test_rates_too_low_for_a_linear_axis_get_a_logarithmic_one() -> None:
    assert [axes.get_yscale() for axes in draw({"a": FALLING}).axes] == ["linear", "log"]
    assert [axes.get_yscale() for axes in draw({"a": np.linspace(1e-6, 0.1, 8)}).axes] == ["linear"]  # a warm-up alone
    assert [axes.get_yscale() for axes in draw({"a": np.array([0.1, 0.05, 0.0])}).axes] == ["linear"]


def test_parts_that_differ_and_frozen_epochs_are_named() -> None:
    legend = draw({"backbone": FALLING, "classifier": 2 * FALLING}, frozen_epochs=1).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["backbone", "classifier", "backbone frozen (1 epochs)"]


def test_the_same_schedule_gives_the_same_bytes_of_png(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_figure(draw({"learning rate": FALLING}, title="long " * 60), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert Image.open(tmp_path / "a.png").size == (1080, 768)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ({"type": "constant"}, "constant 0.05"),
        ({"type": "constant", "warmup_epochs": 1}, "1 epoch of warm-up, then constant 0.05"),
        ({"type": "step", "step_epochs": 3}, "step: 0.05, × 0.1 every 3 epochs (changes per epoch)"),
        ({"type": "multi_step", "milestones": [3, 7]}, "multi-step: 0.05, × 0.1 at epoch 3, 7 (changes per epoch)"),
        (
            {"type": "cosine", "warmup_epochs": 2.5},
            "2.5 epochs of warm-up, then cosine from 0.05 to 0 (changes per step)",
        ),
        (
            {"type": "cosine_restarts", "first_cycle_epochs": 2, "cycle_factor": 2},
            "cosine from 0.05 to 0 with restarts, first cycle 2 epochs, each 2 times as long as the one before (changes per step)",
        ),
        (
            {"type": "plateau"},
            "plateau: 0.05, × 0.1 after more than 5 epochs without a better metric (changes per epoch);\n"
            "shown for a metric that never improves after the first epoch",
        ),
        ({"type": "one_cycle"}, "one cycle: 0.002 → 0.05 at 30% → 2e-07 (changes per step)"),
    ],
)
def test_a_schedule_is_told_in_words(scheduler: dict[str, Any], words: str) -> None:
    config = make_role(epochs=12, scheduler=scheduler).training
    assert describe_schedule(config.scheduler, peak=0.05) == words
