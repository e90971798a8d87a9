"""`prefect.flow` with what all flows share: parameter descriptions, flow run names, a page after a failure."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, flow

from .failure import show_failure
from .naming import name_flow_run
from .parameters import DESCRIPTIONS

P = ParamSpec("P")
R = TypeVar("R")


def pipeline_flow(
    name: str, *, failure_hooks: Sequence[Callable[..., None]] = (), **descriptions: str
) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a flow of a function.

    Args:
        name: the flow's name on the server.
        failure_hooks: called when a flow run fails, crashes or is cancelled, before its failure page is published.
        **descriptions: of the function's parameters that `DESCRIPTIONS` lacks or describes otherwise. `--help` and the
            form of the deployment show them.
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        arguments = [
            f"    {parameter}: {(DESCRIPTIONS | descriptions)[parameter]}"
            for parameter in inspect.signature(function).parameters
        ]
        function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *arguments])
        hooks: list[Any] = [*failure_hooks, show_failure]
        return flow(name=name, flow_run_name=name_flow_run, on_failure=hooks, on_crashed=hooks, on_cancellation=hooks)(
            function
        )

    return decorate
