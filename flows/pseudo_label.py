"""Label the pool with a teacher and select pseudo-labels; writes a manifest."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import typer

from ssl_pipeline.reports.comparison import selection_sentence
from ssl_pipeline.stages.open import open_run

from . import tasks
from .operations.command import run_from_command_line
from .operations.naming import this_flow
from .operations.parameters import configure
from .operations.pipeline_flow import pipeline_flow


@pipeline_flow(
    "pseudo-label",
    checkpoint="The teacher's best.safetensors; by default the run's first teacher.",
    round_index="The round to label for, from 1.",
)
def pseudo_label(
    config_path: str = "configs/demo.yaml",
    run_name: str | None = None,
    seed: int | None = None,
    checkpoint: str | None = None,
    round_index: int = 1,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Label the pool with a teacher and write the manifest: each label with its confidence, status and reason."""
    config = configure(config_path, run_name, overrides, seed=seed, device=device)
    with open_run(config, *this_flow()) as run:
        tasks.draw(config)
        tasks.prepare(config, run)
        teacher = Path(checkpoint) if checkpoint else run.teacher / "best.safetensors"
        tasks.predict(config, run, round_index, teacher)
        selection = tasks.select(config, run, round_index)
    return asdict(selection) | {"manifest": str(selection.manifest)}


def print_selection(selection: dict[str, Any]) -> None:
    """Print the counts of pseudo-labels, the guards' faults and the manifest."""
    typer.echo(selection_sentence(selection["counts"], selection["precision"]))
    for fault in selection["faults"]:
        typer.echo(f"Fault: {fault}")
    typer.echo(f"Manifest: {selection['manifest']}")


if __name__ == "__main__":
    run_from_command_line(pseudo_label, report=print_selection)
