"""The full cycle: teacher → pseudo-labels → student → gate, round after round, then the honest comparison."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow
from rich.console import Console

from flows import tasks
from flows.command import run_from_command_line
from flows.events import announce_failure, announce_finished
from flows.failure import show_failure
from flows.naming import named_by_run
from flows.parameters import as_overrides
from flows.review import decided_to_go_on
from flows.showing import show
from ssl_pipeline.config_loading import load_config
from ssl_pipeline.reports.comparison import comparison_table, verdict
from ssl_pipeline.reports.stage_pages import cycle_page
from ssl_pipeline.session import open_run


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
        if config.masking:
            tasks.draw_masks(config.masked_sets, config.execution)
        tasks.prepare(config, run)
        tasks.train_teacher(config, run)
        if config.out_of_fold is not None:
            tasks.train_fold_teachers(config, run)
        best, news = run.teacher, None
        for round_index in range(1, config.rounds + 1):
            tasks.predict(config, run, round_index, best / "best.safetensors")
            tasks.select(config, run, round_index)
            if round_index > 1 and not (news := tasks.measure_news(config, run, round_index))["enough"]:
                round_index -= 1  # the last one with a student
                break
            if not decided_to_go_on(config, run, round_index):
                break  # a person rejected what would be learned
            tasks.train_student(config, run, round_index)
            decision = tasks.gate(config, run, round_index, best)
            if not decision["promoted"]:
                break  # the same teacher would give the same labels again
            best = run.student(round_index)
        summary = tasks.finish(config, run, last_round=round_index, promoted=best, news=news)
    show(lambda: [cycle_page(summary, run.root)])
    announce_finished(summary)
    return summary


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
