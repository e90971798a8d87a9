"""Prepare the faces and train a teacher on the labeled ones."""

from dataclasses import asdict
from typing import Any, Literal

from ssl_pipeline.stages.open import open_run

from . import tasks
from .operations.command import print_training, run_from_command_line
from .operations.naming import this_flow
from .operations.parameters import configure
from .operations.pipeline_flow import pipeline_flow


@pipeline_flow("train-teacher")
def train_teacher(
    config_path: str = "configs/demo.yaml",
    run_name: str | None = None,
    seed: int | None = None,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Prepare the faces and train a teacher on the labeled ones."""
    config = configure(config_path, run_name, overrides, seed=seed, device=device)
    with open_run(config, *this_flow()) as run:
        tasks.draw(config)
        tasks.prepare(config, run)
        teacher = tasks.train_teacher(config, run)
        if config.out_of_fold is not None:
            tasks.train_fold_teachers(config, run)
    return asdict(teacher) | {"checkpoint": str(teacher.checkpoint)}


if __name__ == "__main__":
    run_from_command_line(train_teacher, report=print_training)
