"""The review page's application: its routes, from JSON to the review and back."""

import hashlib
import io
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ssl_pipeline.config.base import Section
from ssl_pipeline.errors import PipelineError
from ssl_pipeline.review.details import Shown
from ssl_pipeline.review.faces import STATUSES, Category, ReviewFaces
from ssl_pipeline.review.listing import Listing, Query
from ssl_pipeline.review.precision import audit_precision
from ssl_pipeline.review.queues import Queue
from ssl_pipeline.review.similar import SimilarFaces
from ssl_pipeline.review.votes import STATES, Votes
from ssl_pipeline.runs.answers import Answer, faults_of

PAGE_FILES = Path(str(files("ssl_pipeline.review"))) / "page"
MAP_SCRIPT = Path(str(files("ssl_pipeline.reports"))) / "page" / "map.js"
SMALL = 128
"""Pixels of a thumbnail in lists, at most."""


class SentAnswer(Section):
    """An answer as the page sends it; what it is about is filled in by the server."""

    id: str
    row: int = Field(ge=0)
    attribute: str
    decision: Literal["label", "reject", "unsure", "undo"]
    value: str | None = None
    reviewer: str
    time: str
    queue: str
    """It must be the server's: an answer that was kept in a browser is no answer of another queue."""
    num_votes_seen: int = 0


_SENT: TypeAdapter[list[SentAnswer]] = TypeAdapter(list[SentAnswer])
_ROWS: TypeAdapter[list[int]] = TypeAdapter(list[int])


@dataclass
class Review:
    """All that the routes use."""

    faces: ReviewFaces
    queue: Queue
    votes: Votes
    similar: SimilarFaces
    run_root: Path
    reviewer: str = ""
    """Preset name of the reviewer."""
    queues: Sequence[str] = ()
    """Other queues that the run offers, as commands."""

    def __post_init__(self) -> None:
        self.listing = Listing(self.queue, self.faces, self.votes)
        self.shown = Shown(self.queue, self.faces, self.votes)
        self._precision: tuple[int, Any] = (-1, [])

    def answer(self, sent: SentAnswer) -> Answer:
        """Fill in what an answer is about.

        Raises:
            ValueError: if there is no such face, attribute or value.
        """
        labels = self.faces.manifest.labels
        if sent.row >= len(self.faces):
            raise ValueError(f"no face {sent.row} among {len(self.faces):,}")
        if sent.queue != self.queue.name:
            raise ValueError(f"an answer of queue '{sent.queue}'; this is '{self.queue.name}'")
        datetime.fromisoformat(sent.time)
        content_hash, image_id = self.faces.content_hashes[sent.row].as_py(), self.faces.image_ids[sent.row].as_py()
        details = {"image_id": image_id, "content_hash": content_hash}
        answer = Answer(**sent.model_dump(exclude={"row"}), **details, is_audit=self.queue.is_audit)
        if fault := faults_of(answer, labels):
            raise ValueError(fault)
        position = labels.names.index(answer.attribute)
        shown, code = self.faces.labels[position], int(self.faces.labels[position].codes[sent.row])
        confidence = float(shown.confidence[sent.row])
        guess = labels.attributes[position].values[code] if code >= 0 else None
        return answer.model_copy(
            update={"guess": guess, "confidence": None if np.isnan(confidence) else round(confidence, 6)}
        )

    def progress(self, query: Query) -> dict[str, Any]:
        """Count what is answered; in an audit also its precision so far, and how often reviewers agree."""
        num_pairs, num_equal = self.votes.agreement()
        version = self.votes.version
        if self.queue.is_audit and self._precision[0] != version:
            self._precision = version, audit_precision(self.queue, self.faces, self.votes)
        return {
            "version": version,
            "num_answered": self.listing.num_answered(query),
            "num_items": len(self.queue),
            "num_pairs": num_pairs,
            "num_equal": num_equal,
            "precision": self._precision[1],
        }


def create_app(review: Review) -> Starlette:
    """Build the application, without its guard."""
    routes = _Routes(review)
    return Starlette(
        routes=[
            Route("/", routes.index),
            Route("/static/map.js", lambda request: FileResponse(MAP_SCRIPT)),
            Mount("/static", StaticFiles(directory=PAGE_FILES)),
            Route("/faces/{digest}/{row:int}/{size}", routes.picture),
            Route("/api/session", _answered(routes.session)),
            Route("/api/faces", _answered(routes.list_faces)),
            Route("/api/counts", _answered(routes.counts)),
            Route("/api/face/{row:int}", _answered(routes.face)),
            Route("/api/changes", _answered(routes.changes)),
            Route("/api/answers", _answered(routes.save), methods=["POST"]),
            Route("/api/selection", _answered(routes.select), methods=["POST"]),
            Route("/api/map", _answered(routes.start_map), methods=["POST"]),
            Route("/api/map", _answered(routes.map)),
        ]
    )


def _guessed_attribute(faces: ReviewFaces) -> str:
    """Return the first attribute that the manifest guesses for some face; the first one if all are known."""
    guessed = [STATUSES.index("accepted"), STATUSES.index("rejected")]
    names = faces.manifest.labels.names
    pairs = zip(names, faces.labels, strict=True)
    return next((name for name, labels in pairs if np.isin(labels.status, guessed).any()), names[0])


def _answered(work: Callable[[Request, bytes], Any]) -> Callable[[Request], Awaitable[Response]]:
    """Run a route's work in a thread; its result is sent as JSON, and a fault as 400 with its words."""

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        try:
            return JSONResponse(await run_in_threadpool(work, request, body))
        except LookupError as error:
            return JSONResponse({"error": str(error)}, 404)
        except ValueError as error:  # pydantic's among them
            return JSONResponse({"error": str(error)}, 400)
        except PipelineError as error:
            return JSONResponse({"error": str(error)}, 503)

    return endpoint


class _Routes:
    """The routes of one review."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._encode = lru_cache(maxsize=4096)(self._encode_picture)

    def index(self, request: Request) -> Response:
        return FileResponse(PAGE_FILES / "index.html", headers={"Cache-Control": "no-store"})

    def session(self, request: Request, body: bytes) -> dict[str, Any]:
        """What the page needs once."""
        review = self._review
        return {
            "run": review.run_root.resolve().name,
            "round": review.faces.manifest.identity.round_index,
            "reviewer": review.reviewer,
            "attribute": _guessed_attribute(review.faces),
            "attributes": review.faces.manifest.labels.to_dict(),
            "queue": {"name": review.queue.name, "title": review.queue.title, "is_audit": review.queue.is_audit},
            "is_chosen": review.queue.name != "all",
            "queues": list(review.queues),
            "num_unreadable": review.faces.num_unreadable,
            "picture": f"faces/{review.faces.digest[:12]}",
            "states": STATES,
        }

    def list_faces(self, request: Request, body: bytes) -> dict[str, Any]:
        """A page of items; with ``row``, the one that begins with this face, if it matches."""
        parameters = dict(request.query_params)
        after = int(parameters.pop("after", -1))
        query = self._query(parameters)
        self._review.votes.refresh()
        page = self._review.listing.page(query, after=after)
        items = [self._review.shown.item(item, query.reviewer) for item in page.items.tolist()]
        return {"items": items, "total": page.total, "after": page.after, "version": self._review.votes.version}

    def counts(self, request: Request, body: bytes) -> dict[str, Any]:
        """Items per option of each filter."""
        return self._review.listing.counts(self._query(dict(request.query_params)))

    def face(self, request: Request, body: bytes) -> dict[str, Any]:
        """All that stands behind a face's labels."""
        row, reviewer = request.path_params["row"], request.query_params.get("reviewer", "")
        if row >= len(self._review.faces):
            raise LookupError(f"no face {row}")
        face = self._review.shown.face(row, reviewer)
        similar = self._review.similar.result
        rows = None if similar is None else similar.nearest(row)
        names = self._review.faces.manifest.labels.names
        hidden = any(self._review.shown.is_hidden(row, name, reviewer) for name in names)
        if rows is not None and not hidden:
            face["nearest"] = [{"row": near, "labels": self._values(near)} for near in rows]
        face["map"] = self._review.similar.state
        return face

    def changes(self, request: Request, body: bytes) -> dict[str, Any]:
        """The labels whose votes changed after a version, and the progress."""
        review, parameters = self._review, dict(request.query_params)
        since = int(parameters.pop("since", 0))
        query = self._query(parameters)
        review.votes.refresh()
        changed = [
            {"row": row, "attribute": name, "label": review.shown.label(row, name, query.reviewer)}
            for row, name in review.votes.changes_since(since)
        ]
        return {"labels": changed, **review.progress(query)}

    def save(self, request: Request, body: bytes) -> dict[str, Any]:
        """Save answers; those whose ids are returned are on the disk."""
        answers = []
        try:
            sent = _SENT.validate_json(body)
            answers = [self._review.answer(one) for one in sent]
        except ValidationError as error:
            raise ValueError(f"not an answer: {error.errors()[0]['msg']} at {error.errors()[0]['loc']}") from None
        self._review.votes.save(answers)
        labels = [
            {
                "row": one.row,
                "attribute": one.attribute,
                "label": self._review.shown.label(one.row, one.attribute, one.reviewer),
            }
            for one in sent
        ]
        return {"saved": [answer.id for answer in answers], "labels": labels}

    def select(self, request: Request, body: bytes) -> dict[str, Any]:
        """Keep a set of faces for the filter ``selection``."""
        rows = np.array(_ROWS.validate_json(body), dtype=np.int64)
        name = hashlib.sha256(rows.tobytes()).hexdigest()[:16]
        self._review.listing.select(name, rows)
        return {"selection": name, "num_faces": len(rows)}

    def start_map(self, request: Request, body: bytes) -> dict[str, Any]:
        """Begin to compute the map."""
        self._review.similar.start()
        return self._map_state()

    def map(self, request: Request, body: bytes) -> dict[str, Any]:
        """The points of the map, once it is computed; in an audit there is none, since it would tell the guesses."""
        similar, faces = self._review.similar.result, self._review.faces
        if similar is None or self._review.queue.is_audit:
            return self._map_state()
        rows, groups = similar.rows, {}
        for attribute, labels in zip(faces.manifest.labels.attributes, faces.labels, strict=True):
            groups[attribute.name] = Category(labels.codes[rows].astype(np.int32), attribute.values)
            groups[f"{attribute.name}: status"] = Category(labels.status[rows].astype(np.int32), STATUSES)
        groups["source"] = Category(faces.source.codes[rows], faces.source.names)
        groups["group"] = Category(faces.origin.codes[rows], faces.origin.names)
        marked = np.zeros(len(rows), int)
        marked[similar.labeled] = 1
        return {
            **self._map_state(),
            "rows": rows.tolist(),
            "x": np.round(similar.points[:, 0], 4).tolist(),
            "y": np.round(similar.points[:, 1], 4).tolist(),
            "marked": marked.tolist(),
            "groups": {name: {"values": group.names, "codes": group.codes.tolist()} for name, group in groups.items()},
        }

    def picture(self, request: Request) -> Response:
        """A face as WebP; the digest in the address lets browsers keep it."""
        row, size, faces = request.path_params["row"], request.path_params["size"], self._review.faces
        if request.path_params["digest"] != faces.digest[:12] or row >= len(faces) or size not in ("small", "large"):
            return PlainTextResponse("No such face.", 404)
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(self._encode(row, size), media_type="image/webp", headers=headers)

    def _encode_picture(self, row: int, size: str) -> bytes:
        image = Image.fromarray(np.asarray(self._review.faces.pixels[self._review.faces.pixel_rows[row]]))
        if size == "small" and image.width > SMALL:
            image = image.resize((SMALL, SMALL), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=90, method=2)
        return buffer.getvalue()

    def _query(self, parameters: dict[str, str]) -> Query:
        return Query.parse(parameters, self._review.faces.manifest.labels.names)

    def _map_state(self) -> dict[str, Any]:
        similar = self._review.similar
        state = "hidden" if self._review.queue.is_audit else similar.state
        faces = self._review.faces
        return {"state": state, "error": similar.error, "num_faces": similar.num_faces, "num_all": len(faces)}

    def _values(self, row: int) -> str:
        """The labels of a labeled face, in one line."""
        faces = self._review.faces
        pairs = zip(faces.manifest.labels.attributes, faces.labels, strict=True)
        return ", ".join(attribute.values[labels.codes[row]] for attribute, labels in pairs if labels.codes[row] >= 0)
