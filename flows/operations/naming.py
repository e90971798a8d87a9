"""The run that a flow run works in, told from its parameters; flow runs are called by it, so that a list can be read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import runtime

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import PipelineError

_CONFIG = "configs/demo.yaml"
"""Where the parameters name none: the flows' default."""


def run_folder_of(parameters: Mapping[str, Any]) -> Path | None:
    """Give the directory of the run that a flow's parameters mean; None where the config cannot be read."""
    path, run_name = Path(parameters.get("config_path") or _CONFIG), parameters.get("run_name") or None
    try:
        config = load_config(path, overrides=parameters.get("overrides") or [], run_name=run_name)
    except PipelineError:
        return None
    return config.runs_root / config.run_name


def run_name_of(parameters: Mapping[str, Any]) -> str:
    """Give the name of the run that a flow's parameters mean; where the config cannot be read, the config's path."""
    if parameters.get("run_name"):
        return str(parameters["run_name"])
    folder = run_folder_of(parameters)
    return folder.name if folder is not None else str(parameters.get("config_path") or _CONFIG)


def named_by_run() -> str:
    """Put the run's name before the flow run's own, drawn or given by a person: ``demo · active-whippet``."""
    own, run_name = str(runtime.flow_run.name), run_name_of(runtime.flow_run.parameters)
    return own if own == run_name or own.startswith(f"{run_name} · ") else f"{run_name} · {own}"  # again when retried
