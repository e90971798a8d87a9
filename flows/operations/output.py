"""What `ssl-pipeline run` prints: log and bars or errors alone on stderr, and its result alone on stdout."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TextIO

from prefect.logging.handlers import PrefectConsoleHandler

from ssl_pipeline.runs.progress import hide_bars


@contextmanager
def result_alone(*, quiet: bool) -> Iterator[TextIO]:
    """Send to stderr whatever the work inside prints, and yield stdout for its result.

    Args:
        quiet: print errors only: no bars inside, and from now on no log lines below errors; a server still receives them.
    """
    stdout = sys.stdout
    if quiet:
        for logger in (logging.getLogger(), logging.getLogger("prefect")):
            for handler in logger.handlers:
                if isinstance(handler, PrefectConsoleHandler):
                    handler.addFilter(_is_error)  # Prefect resets the level; it also logs when the process exits
    with redirect_stdout(sys.stderr), hide_bars() if quiet else nullcontext():
        yield stdout


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
