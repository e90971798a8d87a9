"""Train a student on human labels and the accepted pseudo-labels of a manifest."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ssl_pipeline.stages.open import open_run

from . import tasks
from .operations.command import print_lines, run_from_command_line, training_lines
from .operations.naming import this_flow
from .operations.parameters import Device, Preset, Seed, configure
from .operations.pipeline_flow import ends_with, pipeline_flow


@pipeline_flow(
    "train-student",
    manifest="A manifest of this run; by default the round's.",
    round_index="The round whose student to train, from 1.",
)
@ends_with(training_lines)
def train_student(
    config_path: str = "configs/demo.yaml",
    run_name: str | None = None,
    seed: Seed = None,
    manifest: str | None = None,
    round_index: int = 1,
    device: Device = None,
    preset: Preset = None,
    faces_root: str | None = None,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Train a student from fresh weights on the human labels and the accepted pseudo-labels of a manifest."""
    config = configure(preset or config_path, run_name, overrides, seed=seed, device=device, faces_root=faces_root)
    with open_run(config, *this_flow()) as run:
        tasks.draw(config)
        tasks.prepare(config, run)
        student = tasks.train_student(config, run, round_index, Path(manifest) if manifest else None)
    return asdict(student) | {"checkpoint": str(student.checkpoint)}


if __name__ == "__main__":
    run_from_command_line(train_student, report=partial(print_lines, training_lines))
