"""The full cycle: teacher → pseudo-labels → student → gate per round, the control, the student's labels, the comparison."""

import json
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.reports.comparison import (
    answers_sentence,
    comparison_table,
    members_sentence,
    selection_sentence,
    student_labels_sentence,
    verdict,
)
from ssl_pipeline.reports.stage_pages import cycle_page
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import jsonable
from ssl_pipeline.stages.finish import RoundOutcome, compared_round
from ssl_pipeline.stages.open import open_run
from ssl_pipeline.stages.train import pool_teaches

from . import tasks
from .operations.artifacts import show
from .operations.command import run_flow, run_from_command_line
from .operations.events import announce_failure, announce_finished
from .operations.naming import this_flow
from .operations.output import result_alone
from .operations.parameters import Confidence, Count, Device, Preset, Review, Seed, configure
from .operations.pipeline_flow import ends_with, pipeline_flow
from .operations.review import review_selection


def result_lines(summary: dict[str, Any]) -> list[str]:
    """State which model is promoted, why, and how to use it."""
    return [f"Promoted: {summary['promoted']}", verdict(summary), f"Predict: {predict_command(summary)}"]


def predict_command(summary: dict[str, Any]) -> str:
    """Return the command that predicts with the promoted model."""
    return f"ssl-pipeline predict {shlex.quote(summary['promoted_checkpoint'])} FOLDER --out predictions.csv"


@pipeline_flow("full-cycle", failure_hooks=[announce_failure])
@ends_with(result_lines)
def full_cycle(
    config_path: str = "configs/demo.yaml",
    run_name: str | None = None,
    seed: Seed = None,
    rounds: Count = None,
    review: Review = None,
    device: Device = None,
    preset: Preset = None,
    faces_root: str | None = None,
    threshold: Confidence = None,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Train a teacher, pseudo-label the pool, train students, and compare them on the test split."""
    config = configure(
        preset or config_path,
        run_name,
        overrides,
        seed=seed,
        rounds=rounds,
        review=review,
        device=device,
        faces_root=faces_root,
        threshold=threshold,
    )
    with open_run(config, *this_flow()) as run:
        tasks.draw(config)
        tasks.prepare(config, run)
        teacher = tasks.train_teacher(config, run).directory
        if config.out_of_fold is not None:
            tasks.train_fold_teachers(config, run)
        outcomes: list[RoundOutcome] = []
        for round_index in range(1, config.rounds + 1):
            outcomes.append(_run_round(config, run, round_index, teacher))
            if not outcomes[-1].promoted:
                break  # the same teacher would predict the same labels
            teacher = run.student(round_index)
        compared = compared_round(outcomes)
        if config.control and compared is not None:
            tasks.train_control(config, run, compared)
        labels = None if compared is None else tasks.label_pool_again(config, run, compared)
        summary: dict[str, Any] = tasks.finish(config, run, outcomes, labels)
    show(lambda: [cycle_page(summary, run.root)])
    announce_finished(summary)
    return summary


def _run_round(config: RunConfig, run: RunDir, round_index: int, teacher: Path) -> RoundOutcome:
    """Predict, select, review, train a student, gate."""
    tasks.predict(config, run, round_index, teacher / "best.safetensors")
    selected = tasks.select(config, run, round_index)
    if selected.refused:
        return RoundOutcome(round_index, refused=selected.faults)
    changed = tasks.changed_label_share(config, run, round_index) if round_index > 1 else None
    if changed is not None and not changed.should_continue:
        return RoundOutcome(round_index, changed)
    review = review_selection(config, run, round_index)
    if review is not None and review.choice == "reject":
        return RoundOutcome(round_index, changed, review)
    if not pool_teaches(config, run, round_index):
        return RoundOutcome(round_index, changed, review, pool_teaches=False)
    student = tasks.train_student(config, run, round_index)
    gate = tasks.gate(config, run, round_index, teacher)
    return RoundOutcome(round_index, changed, review, student=student, gate=gate)


def print_summary(summary: dict[str, Any]) -> None:
    """Print the comparison of teacher and student, the counts of pseudo-labels, and the paths of the results."""
    console, prose = Console(soft_wrap=True, markup=False), Console(markup=False)
    prose.soft_wrap = not prose.is_terminal
    if summary["student"] is not None:
        prose.print(comparison_table(summary))
    prose.print(verdict(summary))
    if teachers := members_sentence(summary):
        prose.print(teachers)
    removed = summary["counts"]["removed_from_pool"]
    prose.print(selection_sentence(summary["counts"], summary["precision"], removed=removed))
    if answered := answers_sentence(summary.get("answers")):
        prose.print(f"Student: {answered}")
    if labels := student_labels_sentence(summary):
        prose.print(labels)
    if summary.get("report"):
        console.print(f"Report:    {summary['report']}", highlight=False)
    console.print(f"Manifest:  {summary['manifest']}", highlight=False)
    console.print(f"Promoted:  {summary['promoted_checkpoint']}", highlight=False)
    console.print(f"Predict:   {predict_command(summary)}", highlight=False)


def run(
    config: Path,
    overrides: list[str] | None = None,
    run_name: str | None = None,
    *,
    quiet: bool = False,
    as_json: bool = False,
) -> None:
    """Run the full cycle; the entry point of `ssl-pipeline run`.

    Args:
        config: path or name of a config.
        overrides: each as ``dotted.key=value``.
        run_name: instead of the config's.
        quiet: print errors, and the path of the promoted model.
        as_json: print the content of summary.json.

    Raises:
        PipelineError: for a user error.
    """
    if not (quiet or as_json):
        run_flow(full_cycle, config, overrides, run_name, report=print_summary)
        return
    with result_alone(quiet=quiet) as stdout:

        def report(summary: dict[str, Any]) -> None:
            text = json.dumps(summary, indent=2, default=jsonable) if as_json else summary["promoted_checkpoint"]
            stdout.write(f"{text}\n")

        run_flow(full_cycle, config, overrides, run_name, report=report)


if __name__ == "__main__":
    run_from_command_line(full_cycle, report=print_summary)
