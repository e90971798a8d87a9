"""What a person sees in Prefect's UI: a page after each stage, bars that move. Decoration: its failures stop no run."""

import base64
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

from ssl_pipeline.reports.stage_pages import Page
from ssl_pipeline.watching import told_to

logger = logging.getLogger("ssl_pipeline.showing")  # the library's name, so that the UI shows the lines

_SECONDS_BETWEEN_UPDATES = 2.0
_MAX_PICTURE_BYTES = 400_000


@contextmanager
def decoration() -> Iterator[None]:
    """Let nothing that goes wrong inside reach the run: a server that is away, an artifact that it refuses."""
    try:
        yield
    except Exception as error:
        logger.warning("not shown in Prefect: %s: %s", type(error).__name__, error)


def show(pages: Callable[[], Iterable[Page]]) -> None:
    """Publish pages as artifacts of the running task or flow; their pictures are put into the text itself."""
    with decoration():
        for page in pages():
            text = "\n\n".join([page.markdown, *map(_embedded, page.pictures)])
            create_markdown_artifact(text, key=page.key, description=page.title)


def _embedded(picture: Path) -> str:
    if not picture.is_file() or picture.stat().st_size > _MAX_PICTURE_BYTES:
        return f"Picture: `{picture}`"
    data = base64.b64encode(picture.read_bytes()).decode()
    return f"![{picture.stem}](data:image/png;base64,{data})"


class _Bars:
    """A progress artifact for each thing at work, moved at most every other second."""

    def __init__(self) -> None:
        self._bars: dict[str, tuple[UUID, float, float]] = {}

    def move(self, what: str, share: float) -> None:
        """Move a bar on, or put it up."""
        now = time.monotonic()
        known = self._bars.get(what)
        if known is not None and (share <= known[2] or (share < 1 and now - known[1] < _SECONDS_BETWEEN_UPDATES)):
            return
        with decoration():
            percent = round(100 * min(max(share, 0.0), 1.0), 1)
            if known is None:
                key = "progress-" + "".join(letter if letter.isalnum() else "-" for letter in what.lower()).strip("-")
                made: Any = create_progress_artifact(percent, key=key, description=what)
                known = (made, now, share)
            else:
                update_progress_artifact(known[0], progress=percent)
            self._bars[what] = (known[0], now, share)


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show how far the work inside has come."""
    with told_to(_Bars().move):
        yield
