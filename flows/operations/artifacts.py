"""What a person sees in Prefect's UI: pages that lead to each other, bars that move. Decoration: its failures stop no run."""

import base64
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.settings import get_current_settings

from ssl_pipeline.reports.stage_pages import Page
from ssl_pipeline.runs.progress import listen

logger = logging.getLogger("ssl_pipeline.showing")  # the library's name, so that the UI shows the lines

_SECONDS_BETWEEN_UPDATES = 2.0
_SECONDS_BETWEEN_TRIES = 60.0  # of a server that is away, after which it is asked as seldom
_SECONDS_TO_END = 5.0
_MAX_PICTURE_BYTES = 400_000


@contextmanager
def decoration() -> Iterator[None]:
    """Let nothing that goes wrong inside reach the run: a server that is away, an artifact that it refuses."""
    try:
        yield
    except Exception as error:
        logger.warning("not shown in Prefect: %s: %s", type(error).__name__, error)


def show(pages: Callable[[], Iterable[Page]], *, flow_run_id: UUID | None = None) -> None:
    """Publish pages as artifacts of the running task or flow, each with links to those that this flow run showed before.

    Their pictures are put into the text itself: a server keeps no files.

    Args:
        pages: makes them; what goes wrong in it stops no run either.
        flow_run_id: whose they are where no flow runs, as in a hook for one whose process died.
    """
    with decoration(), get_client(sync_client=True) as client:
        flow_run, task_run = flow_run_id or runtime.flow_run.id, runtime.task_run.id
        shown = _shown.setdefault(str(flow_run), {})
        for page in pages():
            earlier = [link for key, link in shown.items() if key != page.key]
            text = "\n\n".join([*_links(earlier), page.markdown, *map(_embedded, page.pictures)])
            about = {"key": page.key, "description": page.title, "flow_run_id": flow_run, "task_run_id": task_run}
            made = client.create_artifact(ArtifactCreate(type="markdown", data=text, **about))
            shown[page.key] = (page.title, made.id)


_shown: dict[str, dict[str, tuple[str, UUID]]] = {}
"""Title and artifact of each page of this process, by flow run and key."""


def _links(pages: Iterable[tuple[str, UUID]]) -> Iterator[str]:
    """Name pages with their addresses in the UI, if there is one: a server that ends with its flow shows nothing."""
    ui = get_current_settings().ui_url
    if ui and (links := [f"[{title}]({ui}/artifacts/artifact/{artifact})" for title, artifact in pages]):
        yield "Before this: " + " · ".join(links)


def _embedded(picture: Path) -> str:
    if not picture.is_file() or picture.stat().st_size > _MAX_PICTURE_BYTES:
        return f"Picture: `{picture}`"
    data = base64.b64encode(picture.read_bytes()).decode()
    return f"![{picture.stem}](data:image/png;base64,{data})"


class _Bars:
    """A progress artifact for each thing at work, moved by a thread: the work never waits for a server that is away."""

    def __init__(self) -> None:
        self._shares: dict[str, float] = {}
        """How far each thing is, as the work told."""
        self._shown: dict[str, tuple[UUID, float]] = {}
        """Its artifact, and how far that is moved."""
        self._is_over = threading.Event()
        here = copy_context()  # the artifacts are the running task's
        self._mover = threading.Thread(target=here.run, args=(self._move_on,), name="bars", daemon=True)

    def told(self, what: str, share: float) -> None:
        """Note how far something is, in [0, 1]."""
        self._shares[what] = max(share, self._shares.get(what, 0.0))
        if self._mover.ident is None:
            self._mover.start()

    def end(self) -> None:
        """Move the bars to where the work has ended; do not wait long for a server that is away."""
        self._is_over.set()
        if self._mover.ident is not None:
            self._mover.join(_SECONDS_TO_END)

    def _move_on(self) -> None:
        pause, is_last = _SECONDS_BETWEEN_UPDATES, False
        while True:
            pause = _SECONDS_BETWEEN_UPDATES if self._publish() else min(2 * pause, _SECONDS_BETWEEN_TRIES)
            if is_last:
                return
            is_last = self._is_over.wait(pause)

    def _publish(self) -> bool:
        """Put up or move on what has changed; tell whether that went well."""
        with decoration():
            for what, share in list(self._shares.items()):
                artifact, shown = self._shown.get(what, (None, -1.0))
                if share <= shown:
                    continue
                percent = round(100 * min(share, 1.0), 1)
                if artifact is None:
                    key = "progress-" + "".join(letter if letter.isalnum() else "-" for letter in what.lower()).strip(
                        "-"
                    )
                    made: Any = create_progress_artifact(percent, key=key, description=what)
                    artifact = made
                else:
                    update_progress_artifact(artifact, progress=percent)
                self._shown[what] = (artifact, share)
            return True
        return False


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show how far the work inside has come."""
    bars = _Bars()
    try:
        with listen(bars.told):
            yield
    finally:
        bars.end()
