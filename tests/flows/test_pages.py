"""Every task's pages take the arguments of its stage: Prefect passes defaults too, and errors of pages are only logged."""

import inspect

from prefect import Task

from flows import tasks


def test_pages_take_every_argument_of_their_stage() -> None:
    makers = []
    for name in dir(tasks):
        task = getattr(tasks, name)
        if isinstance(task, Task):
            closure = inspect.getclosurevars(task.fn).nonlocals
            if closure.get("pages") is not None:
                makers.append(name)
                stage = set(inspect.signature(closure["stage"]).parameters)
                pages = inspect.signature(closure["pages"]).parameters.values()
                takes_all = any(p.kind is p.VAR_POSITIONAL for p in pages)
                assert takes_all or stage <= {p.name for p in pages}, name
    assert {"select", "train_student", "gate"} <= set(makers)
