"""The run that a flow run works in, from its parameters; flow runs are named after it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from ssl_pipeline.errors import PipelineError
from ssl_pipeline.stages.open import CYCLE

from .parameters import configure, selected_config


def run_folder(parameters: Mapping[str, Any]) -> Path | None:
    """Return the run directory that a flow's parameters select; None if the config is invalid."""
    try:
        config = configure(selected_config(parameters), parameters.get("run_name") or None, parameters.get("overrides"))
    except PipelineError:
        return None
    return config.runs_root / config.run_name


def run_name(parameters: Mapping[str, Any]) -> str:
    """Return the name of the run that a flow's parameters select; the config's path if the config is invalid."""
    if parameters.get("run_name"):
        return str(parameters["run_name"])
    folder = run_folder(parameters)
    return folder.name if folder is not None else selected_config(parameters)


def deployed_flow_run() -> FlowRun | None:
    """Return the running flow run if it belongs to a deployment, so that a worker can start it again."""
    context = FlowRunContext.get()
    flow_run = None if context is None else context.flow_run
    return None if flow_run is None or flow_run.deployment_id is None else flow_run


def this_flow() -> tuple[str, str]:
    """Return the name of the running flow, and the ID of its flow run."""
    return str(runtime.flow_run.flow_name or CYCLE), str(runtime.flow_run.id or "")


def name_flow_run() -> str:
    """Put the run's name before the flow run's, e.g. ``demo · active-whippet``; a retry keeps the name."""
    name, run = str(runtime.flow_run.name), run_name(runtime.flow_run.parameters)
    return name if name == run or name.startswith(f"{run} · ") else f"{run} · {name}"
