"""Progress reports of long stages; the flows listen and show them in Prefect's UI."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watch = Callable[[str, float], None]
"""Called with the name of the work, e.g. ``teacher`` or ``labeling``, and the finished share, in [0, 1]."""

_watch: ContextVar[Watch] = ContextVar("watch", default=lambda name, share: None)


@contextmanager
def listen(watch: Watch) -> Iterator[None]:
    """Send the reports of work inside this context (and process) to `watch`."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def report(name: str, share: float) -> None:
    """Report the finished share of a named work; called often, so listeners must be fast."""
    _watch.get()(name, share)
