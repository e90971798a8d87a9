"""Prepare the faces and train a teacher on the labeled ones."""

from dataclasses import asdict
from functools import partial
from typing import Any

from ssl_pipeline.stages.open import open_run

from . import tasks
from .operations.command import print_lines, run_from_command_line, training_lines
from .operations.naming import this_flow
from .operations.parameters import Device, Preset, Seed, configure
from .operations.pipeline_flow import ends_with, pipeline_flow


@pipeline_flow("train-teacher")
@ends_with(training_lines)
def train_teacher(
    config_path: str = "configs/demo.yaml",
    run_name: str | None = None,
    seed: Seed = None,
    device: Device = None,
    preset: Preset = None,
    faces_root: str | None = None,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Prepare the faces and train a teacher on the labeled ones."""
    config = configure(preset or config_path, run_name, overrides, seed=seed, device=device, faces_root=faces_root)
    with open_run(config, *this_flow()) as run:
        tasks.draw(config)
        tasks.prepare(config, run)
        teacher = tasks.train_teacher(config, run)
        if config.out_of_fold is not None:
            tasks.train_fold_teachers(config, run)
    return asdict(teacher) | {"checkpoint": str(teacher.checkpoint)}


if __name__ == "__main__":
    run_from_command_line(train_teacher, report=partial(print_lines, training_lines))
