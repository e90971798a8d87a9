"""`prefect.flow` with what all flows share: descriptions, flow run names, a page after a failure, a result in words."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Flow, flow
from prefect.context import FlowRunContext
from prefect.states import Completed

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


def ends_with(lines: Callable[[R], Iterable[str]]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """State a flow's result in the message of its final state, which Prefect logs last and shows in the UI.

    The flow still returns the result itself to its caller.

    Args:
        lines: state the result.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            result = function(*args, **kwargs)
            if FlowRunContext.get() is None:  # called without Prefect: flow.fn(...)
                return result
            message = "; ".join(line.strip().removesuffix(".") for line in lines(result))
            return cast(R, Completed(message=message, data=result))  # Prefect unpacks it

        return run

    return decorate
