"""Label the pool with a teacher and decide which labels to keep; leaves a manifest to open."""

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
    name="pseudo-label",
    flow_run_name=named_by_run,
    on_failure=[show_failure],
    on_crashed=[show_failure],
    on_cancellation=[show_failure],
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
    """Label the pool with a teacher and write the manifest of what was labeled, how surely and why.

    Args:
        config_path: A YAML file that says all of the run, as configs/demo.yaml, seen from the checkout's root.
        run_name: Names the folder of the run under data/runs; by default the config's own. The same name again goes on
            where that run stopped; while another process works in it, a second one is refused.
        seed: Of every draw; another seed splits the faces anew. By default the config's own.
        checkpoint: The teacher's best.safetensors; by default the run's own first teacher.
        round_index: The round to label for, from 1.
        device: Where to compute; `auto` takes a GPU where there is one. By default the config's own.
        overrides: Any other setting, dotted.key=value each, as selection.confidence_threshold=0.9.
    """
    settings = as_overrides(overrides, seed=seed, device=device)
    config = load_config(Path(config_path), overrides=settings, run_name=run_name)
    with open_run(config) as run:
        tasks.draw(config)
        tasks.prepare(config, run)
        teacher = Path(checkpoint) if checkpoint else run.teacher / "best.safetensors"
        tasks.predict(config, run, round_index, teacher)
        selection = tasks.select(config, run, round_index)
    return asdict(selection) | {"manifest": str(selection.manifest)}


if __name__ == "__main__":
    run_from_command_line(pseudo_label, after=print)
