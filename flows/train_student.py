"""Train a student on human labels and a manifest's accepted pseudo-labels."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows import tasks
from flows.command import run_from_command_line
from flows.naming import named_by_run
from ssl_pipeline.config_loading import load_config
from ssl_pipeline.session import open_run


@flow(name="train-student", flow_run_name=named_by_run)
def train_student(
    config_path: str = "configs/demo.yaml",
    overrides: list[str] | None = None,
    run_name: str | None = None,
    manifest: str | None = None,
    round_index: int = 1,
) -> dict[str, Any]:
    """Train a student from fresh weights on the human labels and a manifest's accepted pseudo-labels.

    Args:
        config_path: A YAML file that says all of the run, as configs/demo.yaml.
        overrides: Any setting of the config, dotted.key=value each, as student.training.epochs=5.
        run_name: Names the folder of the run under data/runs; by default the config's own.
        manifest: A manifest of this run; by default the round's own.
        round_index: The round whose student to train, from 1.
    """
    config = load_config(Path(config_path), overrides=overrides or [], run_name=run_name)
    with open_run(config) as run:
        tasks.prepare(config, run)
        record: dict[str, Any] = tasks.train_student(config, run, round_index, Path(manifest) if manifest else None)
    return {**record["result"], "checkpoint": str(run.student(round_index) / "best.safetensors")}


if __name__ == "__main__":
    run_from_command_line(train_student, after=print)
