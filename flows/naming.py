"""What flow runs are called: by the run that they work in, so that a list of them can be read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import runtime

from ssl_pipeline.config_loading import load_config
from ssl_pipeline.errors import PipelineError


def run_name_of(parameters: Mapping[str, Any]) -> str:
    """Give the name of the run that a flow's parameters mean; where the config cannot be read, the config's path."""
    if parameters.get("run_name"):
        return str(parameters["run_name"])
    path = str(parameters.get("config_path") or "configs/demo.yaml")
    try:
        return load_config(Path(path), overrides=parameters.get("overrides") or []).run_name
    except PipelineError:
        return path


def named_by_run() -> str:
    """Put the run's name before the flow run's own, drawn or given by a person: ``demo · active-whippet``."""
    own, run_name = str(runtime.flow_run.name), run_name_of(runtime.flow_run.parameters)
    return own if own == run_name or own.startswith(f"{run_name} · ") else f"{run_name} · {own}"  # again when retried
