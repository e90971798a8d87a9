"""Train a student on human labels and a manifest's accepted pseudo-labels."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from prefect import flow

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.stages.open import open_run

from . import tasks
from .operations.command import run_from_command_line
from .operations.failure import show_failure
from .operations.naming import named_by_run
from .operations.parameters import as_overrides


@flow(
    name="train-student",
    flow_run_name=named_by_run,
    on_failure=[show_failure],
    on_crashed=[show_failure],
    on_cancellation=[show_failure],
)
def train_student(
    config_path: str = "configs/demo.yaml",
    run_name: str | None = None,
    seed: int | None = None,
    manifest: str | None = None,
    round_index: int = 1,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Train a student from fresh weights on the human labels and a manifest's accepted pseudo-labels.

    Args:
        config_path: A YAML file that says all of the run, as configs/demo.yaml, seen from the checkout's root.
        run_name: Names the folder of the run under data/runs; by default the config's own. The same name again goes on
            where that run stopped; while another process works in it, a second one is refused.
        seed: Of every draw; another seed splits the faces anew. By default the config's own.
        manifest: A manifest of this run; by default the round's own.
        round_index: The round whose student to train, from 1.
        device: Where to compute; `auto` takes a GPU where there is one. By default the config's own.
        overrides: Any other setting, dotted.key=value each, as student.training.epochs=5.
    """
    settings = as_overrides(overrides, seed=seed, device=device)
    config = load_config(Path(config_path), overrides=settings, run_name=run_name)
    with open_run(config) as run:
        tasks.draw(config)
        tasks.prepare(config, run)
        student = tasks.train_student(config, run, round_index, Path(manifest) if manifest else None)
    return asdict(student) | {"checkpoint": str(student.checkpoint)}


if __name__ == "__main__":
    run_from_command_line(train_student, after=print)
