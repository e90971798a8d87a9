"""How far a long work has come, told to whoever wants to know: the flows show it in Prefect's UI. Alone, nobody listens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watch = Callable[[str, float], None]
"""Told what is at work, as ``teacher`` or ``labeling``, and the share that is done, in [0, 1]."""

_watch: ContextVar[Watch] = ContextVar("watch", default=lambda what, share: None)


@contextmanager
def listen(watch: Watch) -> Iterator[None]:
    """Have the work inside this context, of this process, tell `watch` how far it is."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def report(what: str, share: float) -> None:
    """Tell how far a work has come; called often, so whoever listens must be quick."""
    _watch.get()(what, share)
