"""The full cycle: teacher → pseudo-labels → student → gate, round after round, then the honest comparison."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow
from rich.console import Console

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.reports.comparison import comparison_table, verdict
from ssl_pipeline.reports.stage_pages import cycle_page
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.finish import RoundOutcome
from ssl_pipeline.stages.open import open_run

from . import tasks
from .operations.artifacts import show
from .operations.command import run_from_command_line
from .operations.events import announce_failure, announce_finished
from .operations.failure import show_failure
from .operations.naming import named_by_run
from .operations.parameters import as_overrides
from .operations.review import decide


@flow(
    name="full-cycle",
    flow_run_name=named_by_run,
    log_prints=False,
    on_failure=[announce_failure, show_failure],
    on_crashed=[announce_failure, show_failure],
    on_cancellation=[announce_failure, show_failure],
)
def full_cycle(
    config_path: str = "configs/demo.yaml",
    run_name: str | None = None,
    seed: int | None = None,
    rounds: int | None = None,
    review: Literal["none", "wait"] | None = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Train a teacher, pseudo-label the pool, train students, and compare them on the test split.

    Args:
        config_path: A YAML file that says all of the run, as configs/demo.yaml, seen from the checkout's root.
        run_name: Names the folder of the run under data/runs; by default the config's own. The same name again goes on
            where that run stopped; while another process works in it, a second one is refused.
        seed: Of every draw; another seed splits the faces anew. By default the config's own.
        rounds: How often a student may become the next teacher, from 1. By default the config's own.
        review: Whether a person decides before each student is trained: `wait` asks, `none` asks nobody. By default the
            config's own.
        device: Where to compute; `auto` takes a GPU where there is one. By default the config's own.
        overrides: Any other setting, dotted.key=value each, as teacher.training.epochs=5.
    """
    settings = as_overrides(overrides, seed=seed, rounds=rounds, review=review, device=device)
    config = load_config(Path(config_path), overrides=settings, run_name=run_name)
    with open_run(config) as run:
        tasks.draw(config)
        tasks.prepare(config, run)
        teacher = tasks.train_teacher(config, run).directory
        if config.out_of_fold is not None:
            tasks.train_fold_teachers(config, run)
        outcomes: list[RoundOutcome] = []
        for round_index in range(1, config.rounds + 1):
            outcomes.append(_round(config, run, round_index, teacher))
            if not outcomes[-1].promoted:
                break  # the same teacher would give the same labels again
            teacher = run.student(round_index)
        summary: dict[str, Any] = tasks.finish(config, run, outcomes)
    show(lambda: [cycle_page(summary, run.root)])
    announce_finished(summary)
    return summary


def _round(config: RunConfig, run: RunDir, round_index: int, teacher: Path) -> RoundOutcome:
    """One round: predict, select, ask for a review, train a student, gate."""
    tasks.predict(config, run, round_index, teacher / "best.safetensors")
    tasks.select(config, run, round_index)
    changed = tasks.changed_label_share(config, run, round_index) if round_index > 1 else None
    if changed is not None and not changed.should_continue:
        return RoundOutcome(round_index, changed)
    review = decide(config, run, round_index)
    if review is not None and review.choice == "reject":
        return RoundOutcome(round_index, changed, review)
    student = tasks.train_student(config, run, round_index)
    gate = tasks.gate(config, run, round_index, teacher)
    return RoundOutcome(round_index, changed, review, student, gate)


def tell(summary: dict[str, Any]) -> None:
    """Print what the cycle came to."""
    console = Console(soft_wrap=True)
    if summary["student"] is not None:
        console.print(comparison_table(summary))
    console.print(verdict(summary))
    counts = summary["counts"]
    console.print(
        f"Pseudo-labels: {counts['accepted']:,} of {counts['candidates']:,} candidates accepted, "
        f"{counts['rejected']:,} rejected, {counts['unreadable']:,} unreadable."
    )
    console.print(f"Manifest:  {summary['manifest']}", highlight=False)
    console.print(f"Promoted:  {summary['promoted_checkpoint']}", highlight=False)


if __name__ == "__main__":
    run_from_command_line(full_cycle, after=tell)
