"""Prefect artifacts: linked Markdown pages and progress bars. An error here is logged and never stops a run."""

import base64
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import ArtifactSort
from prefect.settings import get_current_settings

from ssl_pipeline.reports.markdown import markdown_code, markdown_safe
from ssl_pipeline.reports.stage_pages import Page
from ssl_pipeline.runs.progress import listen

logger = logging.getLogger("ssl_pipeline.artifacts")  # Prefect forwards the loggers of this name to the UI

_UPDATE_SECONDS = 2.0
_MAX_RETRY_SECONDS = 60.0  # the pause doubles up to this while the server is unreachable
_JOIN_SECONDS = 5.0
_MAX_PICTURE_BYTES = 400_000


@contextmanager
def warn_on_error() -> Iterator[None]:
    """Log any error inside, e.g. an unreachable server, and continue."""
    try:
        yield
    except Exception as error:
        logger.warning("not shown in Prefect: %s: %s", type(error).__name__, error)


def show(make_pages: Callable[[], Iterable[Page]], *, flow_run_id: UUID | None = None) -> None:
    """Publish pages as artifacts of the running task or flow, each with links to this flow run's earlier pages.

    Pictures are embedded in the Markdown, since a Prefect server stores no files. A page that is there already, e.g. of
    a stage that skipped itself, is not published again; later pages link to it.

    Args:
        make_pages: called here, so that its errors are only logged, too.
        flow_run_id: the flow run of the pages where none is running, e.g. in a hook.
    """
    with warn_on_error(), get_client(sync_client=True) as client:
        flow_run, task_run = flow_run_id or runtime.flow_run.id, runtime.task_run.id
        published = _published.setdefault(str(flow_run), {})
        for page in make_pages():
            earlier = [title_and_id for key, title_and_id in published.items() if key != page.key]
            text = "\n\n".join([*_links(earlier), page.markdown, *map(_embed, page.pictures)])
            existing = _latest(client, page.key) if flow_run_id is None else None  # each failure has its own page
            if existing is None or existing.data != text:
                ids = {"flow_run_id": flow_run, "task_run_id": task_run}
                existing = client.create_artifact(
                    ArtifactCreate(key=page.key, description=page.title, type="markdown", data=text, **ids)
                )
            published[page.key] = (page.title, existing.id)


def _latest(client: SyncPrefectClient, key: str) -> Artifact | None:
    """Return the last version of the artifact with this key; None if there is none."""
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
        sort=ArtifactSort.CREATED_DESC,
        limit=1,
        offset=0,
    )
    return found[0] if found else None


_published: dict[str, dict[str, tuple[str, UUID]]] = {}
"""Title and artifact id of each page that this process published, by flow run and page key."""


def _links(pages: Iterable[tuple[str, UUID]]) -> Iterator[str]:
    """Link to pages in the UI; a flow's temporary server has none."""
    ui = get_current_settings().ui_url
    if ui and (links := [f"[{markdown_safe(title)}]({ui}/artifacts/artifact/{artifact})" for title, artifact in pages]):
        yield "Before this: " + " · ".join(links)


def _embed(picture: Path) -> str:
    if not picture.is_file() or picture.stat().st_size > _MAX_PICTURE_BYTES:
        return f"Picture: {markdown_code(picture)}"
    data = base64.b64encode(picture.read_bytes()).decode()
    return f"![{markdown_safe(picture.stem)}](data:image/png;base64,{data})"


class _ProgressBars:
    """One progress artifact per activity. A thread updates them, so that work never waits for the server."""

    def __init__(self) -> None:
        self._progress: dict[str, float] = {}
        """Share done per activity, in [0, 1]."""
        self._artifacts: dict[str, tuple[UUID, float]] = {}
        """Artifact and its share per activity."""
        self._is_over = threading.Event()
        context = copy_context()  # the artifacts belong to the running task
        self._thread = threading.Thread(target=context.run, args=(self._update,), name="progress-bars", daemon=True)

    def report(self, activity: str, share: float) -> None:
        self._progress[activity] = max(share, self._progress.get(activity, 0.0))
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Publish the last state, unless the server takes too long."""
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)

    def _update(self) -> None:
        pause, is_last = _UPDATE_SECONDS, False
        while True:
            pause = _UPDATE_SECONDS if self._publish() else min(2 * pause, _MAX_RETRY_SECONDS)
            if is_last:
                return
            is_last = self._is_over.wait(pause)

    def _publish(self) -> bool:
        """Create or update the artifacts of all activities that advanced; return whether that succeeded."""
        with warn_on_error():
            for activity, share in list(self._progress.items()):
                artifact, published = self._artifacts.get(activity, (None, -1.0))
                if share <= published:
                    continue
                percent = round(100 * min(share, 1.0), 1)
                if artifact is None:
                    key = "progress-" + re.sub(r"[^a-z0-9]+", "-", activity.lower()).strip("-")
                    created: Any = create_progress_artifact(percent, key=key, description=activity)
                    artifact = created
                else:
                    update_progress_artifact(artifact, progress=percent)
                self._artifacts[activity] = (artifact, share)
            return True
        return False


@contextmanager
def progress_bars() -> Iterator[None]:
    """Show the progress that the work inside reports."""
    bars = _ProgressBars()
    try:
        with listen(bars.report):
            yield
    finally:
        bars.close()
