"""Label the pool with a teacher and select pseudo-labels; writes a manifest."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ssl_pipeline.reports.comparison import selection_sentence
from ssl_pipeline.stages.open import open_run

from . import tasks
from .operations.command import print_lines, run_from_command_line
from .operations.naming import this_flow
from .operations.parameters import Confidence, Device, Preset, Seed, configure
from .operations.pipeline_flow import ends_with, pipeline_flow


def selection_lines(selection: dict[str, Any]) -> list[str]:
    """State the counts of pseudo-labels, the guards' faults and the manifest."""
    faults = [f"Fault: {fault}" for fault in selection["faults"]]
    return [
        selection_sentence(selection["counts"], selection["precision"]),
        *faults,
        f"Manifest: {selection['manifest']}",
    ]


@pipeline_flow(
    "pseudo-label",
    checkpoint="The teacher's best.safetensors; by default the run's first teacher.",
    round_index="The round to label for, from 1.",
)
@ends_with(selection_lines)
def pseudo_label(
    config_path: str = "configs/demo.yaml",
    run_name: str | None = None,
    seed: Seed = None,
    checkpoint: str | None = None,
    round_index: int = 1,
    device: Device = None,
    preset: Preset = None,
    faces_root: str | None = None,
    threshold: Confidence = None,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Label the pool with a teacher and write the manifest: each label with its confidence, status and reason."""
    config = configure(
        preset or config_path,
        run_name,
        overrides,
        seed=seed,
        device=device,
        faces_root=faces_root,
        threshold=threshold,
    )
    with open_run(config, *this_flow()) as run:
        tasks.draw(config)
        tasks.prepare(config, run)
        teacher = Path(checkpoint) if checkpoint else run.teacher / "best.safetensors"
        tasks.predict(config, run, round_index, teacher)
        selection = tasks.select(config, run, round_index)
    return asdict(selection) | {"manifest": str(selection.manifest)}


if __name__ == "__main__":
    run_from_command_line(pseudo_label, report=partial(print_lines, selection_lines))
