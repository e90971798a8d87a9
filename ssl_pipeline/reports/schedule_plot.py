"""A picture of a training's learning rate at every step, drawn before anything is trained."""

import textwrap
from collections.abc import Mapping
from typing import assert_never

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ssl_pipeline.config.optimization import (
    ConstantSchedule,
    CosineRestartsSchedule,
    CosineSchedule,
    MultiStepSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    SchedulerConfig,
    StepSchedule,
)
from ssl_pipeline.labels import FloatArray

MAX_POINTS = 20_000  # more than a picture has columns
LOG_PANEL_FROM = 20  # peak over lowest rate from which a linear axis no longer shows the low ones


def plot_schedule(
    curves: Mapping[str, FloatArray], *, steps_per_epoch: int, frozen_epochs: int, title: str, subtitle: str
) -> Figure:
    """Draw learning rates over epochs.

    Args:
        curves: {name: float [N]}, the learning rate of each step, of as many parts of the model as differ.
        steps_per_epoch: steps an epoch.
        frozen_epochs: for how many epochs the backbone is frozen; shaded.
        title: tells the schedule.
        subtitle: tells what the numbers of steps rest on.

    Returns:
        A figure of one panel, or of two where the rate spans more than a linear axis shows.
    """
    lowest = min(_lowest_after_peak(rates) for rates in curves.values())
    highest = max(rates.max() for rates in curves.values())
    with_log = highest / lowest >= LOG_PANEL_FROM
    figure = Figure(figsize=(9, 6.4 if with_log else 4.4), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    figure.suptitle(_wrapped(title, width=80), fontsize=11, fontweight="bold")
    panels = figure.subplots(2 if with_log else 1, 1, sharex=True, squeeze=False, height_ratios=[2, 1][: 1 + with_log])
    linear: Axes = panels[0, 0]
    linear.set_title(_wrapped(subtitle, width=110), fontsize=9, color="0.3")
    linear.set_ylim(0, highest * 1.12)
    linear.set_ylabel("learning rate")
    linear.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    for axes in panels[:, 0]:
        _plot_curves(axes, curves, steps_per_epoch=steps_per_epoch)
        if frozen_epochs:
            axes.axvspan(0, frozen_epochs, color="0.85", zorder=0, label=f"backbone frozen ({frozen_epochs} epochs)")
        axes.grid(alpha=0.3)
    if len(curves) > 1 or frozen_epochs:
        linear.legend(fontsize=9, loc="upper right")
    if with_log:
        _logarithmic(panels[1, 0], lowest, highest)
    panels[-1, 0].set_xlabel("epoch")
    panels[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure


def describe_schedule(config: SchedulerConfig, *, peak: float) -> str:
    """Tell a schedule in words: its warm-up, its shape, whether it moves per step or per epoch."""
    match config:
        case ConstantSchedule():
            shape = f"constant {peak:g}"
        case StepSchedule(step_epochs=step_epochs, factor=factor):
            every = "every epoch" if step_epochs == 1 else f"every {step_epochs} epochs"
            shape = f"step: {peak:g}, × {factor:g} {every} (moves per epoch)"
        case MultiStepSchedule(milestones=milestones, factor=factor):
            shape = f"multi-step: {peak:g}, × {factor:g} at epoch {', '.join(map(str, milestones))} (moves per epoch)"
        case CosineSchedule(final_fraction=final):
            shape = f"cosine from {peak:g} to {peak * final:g} (moves per step)"
        case CosineRestartsSchedule(first_cycle_epochs=first, cycle_factor=factor):
            growth = "" if factor == 1 else f", each {factor} times as long as the last"
            low = peak * config.final_fraction
            shape = (
                f"cosine from {peak:g} to {low:g} with restarts, first cycle {first} epochs{growth} (moves per step)"
            )
        case PlateauSchedule(patience_epochs=patience, factor=factor):
            shape = (
                f"plateau: {peak:g}, × {factor:g} after more than {patience} epochs without a better metric "
                "(moves per epoch);\ndrawn as what happens if nothing improves after the first epoch"
            )
        case OneCycleSchedule(peak_fraction=fraction, div_factor=division, final_div_factor=final):
            start = peak / division
            return f"one cycle: {start:.3g} → {peak:g} at {fraction:.0%} → {start / final:.3g} (moves per step)"
        case _:
            assert_never(config)
    if not config.warmup_epochs:
        return shape
    return f"{config.warmup_epochs:g} epoch{'' if config.warmup_epochs == 1 else 's'} of warm-up, then {shape}"


def _plot_curves(axes: Axes, curves: Mapping[str, FloatArray], *, steps_per_epoch: int) -> None:
    for name, rates in curves.items():
        kept = np.arange(0, len(rates), max(1, len(rates) // MAX_POINTS))
        epochs = np.append(kept, len(rates)) / steps_per_epoch  # a step's rate holds until the next step
        axes.plot(epochs, np.append(rates[kept], rates[-1]), drawstyle="steps-post", linewidth=1.6, label=name)
    axes.set_xlim(0, len(rates) / steps_per_epoch)


def _lowest_after_peak(rates: FloatArray) -> float:
    falling = rates[np.argmax(rates) :]
    return float(falling[falling > 0].min())


def _wrapped(text: str, *, width: int) -> str:
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width))


def _logarithmic(axes: Axes, lowest: float, highest: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(lowest / 2, highest * 2)
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("the same, log axis")
