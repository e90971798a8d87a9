"""Prepare the faces and train a teacher on the labeled ones."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows import tasks
from flows.command import run_from_command_line
from flows.naming import named_by_run
from ssl_pipeline.config_loading import load_config
from ssl_pipeline.session import open_run


@flow(name="train-teacher", flow_run_name=named_by_run)
def train_teacher(
    config_path: str = "configs/demo.yaml", overrides: list[str] | None = None, run_name: str | None = None
) -> dict[str, Any]:
    """Prepare the faces and train a teacher on the labeled ones.

    Args:
        config_path: A YAML file that says all of the run, as configs/demo.yaml.
        overrides: Any setting of the config, dotted.key=value each, as teacher.training.epochs=5.
        run_name: Names the folder of the run under data/runs; by default the config's own.
    """
    config = load_config(Path(config_path), overrides=overrides or [], run_name=run_name)
    with open_run(config) as run:
        if config.masking:
            tasks.draw_masks(config.masked_sets, config.execution)
        tasks.prepare(config, run)
        record: dict[str, Any] = tasks.train_teacher(config, run)
        if config.out_of_fold is not None:
            tasks.train_fold_teachers(config, run)
    return {**record["result"], "checkpoint": str(run.teacher / "best.safetensors")}


if __name__ == "__main__":
    run_from_command_line(train_teacher, after=print)
