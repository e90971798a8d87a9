"""Plot of a learning-rate schedule."""

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

MAX_POINTS = 20_000  # more than the figure's pixel columns
LOG_PANEL_FROM = 20  # peak / lowest rate; a linear axis no longer shows the low rates


def plot_schedule(
    curves: Mapping[str, FloatArray], *, steps_per_epoch: int, frozen_epochs: int, title: str, subtitle: str
) -> Figure:
    """Plot learning rates over epochs.

    Args:
        curves: {name: float [N]}, the learning rate of each step, per part of the model.
        steps_per_epoch: steps per epoch.
        frozen_epochs: epochs with a frozen backbone; shaded.
        title: the schedule.
        subtitle: the number of faces and steps.

    Returns:
        A figure with a linear panel, and a logarithmic one if the rates span a factor of `LOG_PANEL_FROM`.
    """
    lowest = min(_lowest_after_peak(rates) for rates in curves.values())
    highest = max(rates.max() for rates in curves.values())
    with_log = highest / lowest >= LOG_PANEL_FROM
    figure = Figure(figsize=(9, 6.4 if with_log else 4.4), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    figure.suptitle(_wrap(title, width=80), fontsize=11, fontweight="bold")
    panels = figure.subplots(2 if with_log else 1, 1, sharex=True, squeeze=False, height_ratios=[2, 1][: 1 + with_log])
    linear: Axes = panels[0, 0]
    linear.set_title(_wrap(subtitle, width=110), fontsize=9, color="0.3")
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
        _format_log_panel(panels[1, 0], lowest, highest)
    panels[-1, 0].set_xlabel("epoch")
    panels[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return figure


def describe_schedule(config: SchedulerConfig, *, peak: float) -> str:
    """Describe a schedule: warm-up, shape, and whether it changes per step or per epoch."""
    match config:
        case ConstantSchedule():
            shape = f"constant {peak:g}"
        case StepSchedule(step_epochs=step_epochs, factor=factor):
            every = "every epoch" if step_epochs == 1 else f"every {step_epochs} epochs"
            shape = f"step: {peak:g}, × {factor:g} {every} (changes per epoch)"
        case MultiStepSchedule(milestones=milestones, factor=factor):
            shape = f"multi-step: {peak:g}, × {factor:g} at epoch {', '.join(map(str, milestones))} (changes per epoch)"
        case CosineSchedule(final_fraction=final):
            shape = f"cosine from {peak:g} to {peak * final:g} (changes per step)"
        case CosineRestartsSchedule(first_cycle_epochs=first, cycle_factor=factor):
            growth = "" if factor == 1 else f", each {factor} times as long as the one before"
            low = peak * config.final_fraction
            shape = (
                f"cosine from {peak:g} to {low:g} with restarts, first cycle {first} epochs{growth} (changes per step)"
            )
        case PlateauSchedule(patience_epochs=patience, factor=factor):
            shape = (
                f"plateau: {peak:g}, × {factor:g} after more than {patience} epochs without a better metric "
                "(changes per epoch);\nshown for a metric that never improves after the first epoch"
            )
        case OneCycleSchedule(peak_fraction=fraction, div_factor=division, final_div_factor=final):
            start = peak / division
            return f"one cycle: {start:.3g} → {peak:g} at {fraction:.0%} → {start / final:.3g} (changes per step)"
        case _:
            assert_never(config)
    if not config.warmup_epochs:
        return shape
    return f"{config.warmup_epochs:g} epoch{'' if config.warmup_epochs == 1 else 's'} of warm-up, then {shape}"


def _plot_curves(axes: Axes, curves: Mapping[str, FloatArray], *, steps_per_epoch: int) -> None:
    for name, rates in curves.items():
        indices = np.arange(0, len(rates), max(1, len(rates) // MAX_POINTS))
        epochs = np.append(indices, len(rates)) / steps_per_epoch  # a rate holds until the next step
        axes.plot(epochs, np.append(rates[indices], rates[-1]), drawstyle="steps-post", linewidth=1.6, label=name)
    axes.set_xlim(0, len(rates) / steps_per_epoch)


def _lowest_after_peak(rates: FloatArray) -> float:
    falling = rates[np.argmax(rates) :]
    return float(falling[falling > 0].min())


def _wrap(text: str, *, width: int) -> str:
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, width))


def _format_log_panel(axes: Axes, lowest: float, highest: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(lowest / 2, highest * 2)
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("learning rate (log)")
