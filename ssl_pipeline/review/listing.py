"""Lists of a queue's items: filters, orders, keyset pages and counts per option.

Shapes: M items of the queue, N faces.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ssl_pipeline.labels import BoolArray, IntArray
from ssl_pipeline.review.faces import STATUSES, Category, ReviewFaces
from ssl_pipeline.review.queues import ANY, Queue
from ssl_pipeline.review.votes import STATES, Votes

PAGE = 200
SORTS = ("queue", "unsure", "sure", "image_id")
PROGRESS = ("undecided", "answered", "mine", "disputed", "unsure")
"""Filters by answers: not answered by anyone (in an audit: by the reviewer), by someone, by the reviewer; two disagree; set aside."""
_NUM_CACHED = 64
_BLIND = ("progress", "search", "reviewer", "attribute", "sort")


@dataclass(frozen=True)
class Query:
    """Which items are listed, and in which order."""

    attribute: str
    """In hand: confidence, status, reason and progress are those of this attribute."""
    reviewer: str = ""
    values: tuple[tuple[str, str], ...] = ()
    """Required values, ``(attribute, value)``."""
    status: str = ""
    reason: str = ""
    source: str = ""
    origin: str = ""
    progress: str = ""
    search: str = ""
    selection: str = ""
    """Name of a set of rows, see `Listing.select`."""
    lower: float = 0.0
    upper: float = 1.0
    """Of the confidence, both inclusive."""
    sort: str = "queue"

    @classmethod
    def parse(cls, parameters: Mapping[str, str], names: list[str]) -> "Query":
        """Read a query's parameters; ``value.gender=female`` requires a value.

        Raises:
            ValueError: if one is unknown or has an undefined value.
        """
        texts = {key: text for key, text in parameters.items() if not key.startswith("value.")}
        values = tuple((key[6:], text) for key, text in sorted(parameters.items()) if key.startswith("value."))
        numbers = {key: float(texts.pop(key)) for key in ("lower", "upper") if key in texts}
        if unknown := texts.keys() - cls.__dataclass_fields__.keys():
            raise ValueError(f"unknown parameters {sorted(unknown)}")
        query = cls(**{"attribute": names[0], **texts}, **numbers, values=values)  # type: ignore[arg-type]
        for name in (query.attribute, *(name for name, _ in values)):
            if name not in names:
                raise ValueError(f"'{name}' is no attribute {names}")
        if query.sort not in SORTS or query.progress not in ("", *PROGRESS) or query.status not in ("", *STATUSES):
            raise ValueError(f"undefined sort '{query.sort}', progress '{query.progress}' or status '{query.status}'")
        return query


@dataclass(frozen=True)
class Page:
    """A page of items."""

    items: IntArray
    """int [≤ 200]."""
    total: int
    """Items that match."""
    after: int | None
    """Where the next page begins; None after the last one. A place in the order of all items, which answers never change."""


class Listing:
    """Lists of one queue. Methods may be called by several threads."""

    def __init__(self, queue: Queue, faces: ReviewFaces, votes: Votes) -> None:
        self._queue, self._faces, self._votes = queue, faces, votes
        self._cache: OrderedDict[Any, Any] = OrderedDict()
        self._selections: dict[str, BoolArray] = {}
        self._lock = threading.RLock()

    def select(self, name: str, rows: IntArray) -> None:
        """Keep a set of faces, e.g. those inside a lasso, for the filter ``selection``; the last 20 are kept."""
        marked = np.zeros(len(self._faces), bool)
        marked[rows[(rows >= 0) & (rows < len(marked))]] = True
        with self._lock:
            self._selections[name] = marked
            while len(self._selections) > 20:
                del self._selections[next(iter(self._selections))]

    def page(self, query: Query, *, after: int = -1, limit: int = PAGE) -> Page:
        """Return the items that follow a place in the order.

        Raises:
            ValueError: if the filters would tell hidden guesses, or the selection is unknown.
        """
        self._check(query)
        with self._lock:
            order = self._order(query)
            places = self._cached(("places", query, self._votes.version), lambda: self._places(query, order))
        start = int(np.searchsorted(places, after, side="right"))
        chosen = places[start : start + limit]
        is_last = start + len(chosen) >= len(places)
        return Page(order[chosen], len(places), None if is_last else int(chosen[-1]))

    def counts(self, query: Query) -> dict[str, dict[str, int]]:
        """Count the items of each option of a filter, given the other filters; options without an item are left out.

        Raises:
            ValueError: as `page`.
        """
        self._check(query)
        with self._lock:
            masks = self._masks(query)
            names = self._faces.manifest.labels.names
            labels = self._labels(query)
            categories = {
                "status": Category(labels.status.astype(np.int32), STATUSES),
                "reason": labels.kind,
                "source": self._faces.source,
                "origin": self._faces.origin,
            }
            if self._queue.is_audit:
                categories = {}
            else:
                for name, attribute in zip(names, self._faces.manifest.labels.attributes, strict=True):
                    codes = self._faces.labels[names.index(name)].codes.astype(np.int32)
                    categories[f"value.{name}"] = Category(codes, attribute.values)
            counts = {key: self._count(category, _all(masks, key)) for key, category in categories.items()}
            others = _all(masks, "progress", len(self._queue))
            counts["progress"] = {
                name: int(np.count_nonzero(others & self._progress(query, name))) for name in PROGRESS
            }
        return counts

    def num_answered(self, query: Query) -> int:
        """Count the queue's items that are not undecided, whatever the filters."""
        with self._lock:
            return len(self._queue) - int(np.count_nonzero(self._progress(query, "undecided")))

    def _check(self, query: Query) -> None:
        if self._queue.is_audit and (query.sort != "queue" or self._masks(query).keys() - set(_BLIND)):
            raise ValueError("an audit hides the guesses: it can be filtered by answers and by image id only")
        if query.selection and query.selection not in self._selections:
            raise ValueError(f"unknown selection '{query.selection}'; draw it again")

    def _places(self, query: Query, order: IntArray) -> IntArray:
        return np.flatnonzero(_all(self._masks(query), None, len(self._queue))[order])

    def _masks(self, query: Query) -> dict[str, BoolArray]:
        """Return per filter in use which items match, bool [M] each."""
        faces, labels, rows = self._faces, self._labels(query), self._queue.rows
        masks: dict[str, BoolArray] = {}
        for name, category in (
            ("reason", labels.kind),
            ("source", faces.source),
            ("origin", faces.origin),
        ):
            if wanted := getattr(query, name):
                masks[name] = category.codes[rows] == _position(category.names, wanted)
        if query.status:
            masks["status"] = labels.status[rows] == STATUSES.index(query.status)
        for name, value in query.values:
            position = faces.manifest.labels.names.index(name)
            code = _position(faces.manifest.labels.attributes[position].values, value)
            masks[f"value.{name}"] = faces.labels[position].codes[rows] == code
        if query.lower > 0 or query.upper < 1:
            confidence = labels.confidence[rows]
            masks["confidence"] = (confidence >= query.lower) & (confidence <= query.upper)
        if query.search:
            masks["search"] = self._cached(("search", query.search), lambda: faces.contains(query.search))[rows]
        if query.selection in self._selections:
            masks["selection"] = self._selections[query.selection][rows]
        if query.progress:
            masks["progress"] = self._progress(query, query.progress)
        return masks

    def _labels(self, query: Query) -> Any:
        return self._faces.labels[self._faces.manifest.labels.names.index(query.attribute)]

    def _progress(self, query: Query, wanted: str) -> BoolArray:
        """Mark the items with answers of a kind, each for its own attribute or the one in hand, bool [M]."""
        names, queue, votes = self._faces.manifest.labels.names, self._queue, self._votes
        marked = np.zeros(len(queue), bool)
        in_hand = names.index(query.attribute)
        for position, name in enumerate(names):
            items = (queue.attributes == position) | ((queue.attributes == ANY) & (position == in_hand))
            if not items.any():
                continue
            rows = queue.rows[items]
            if wanted == "mine" or (wanted == "undecided" and queue.is_audit):
                mine = votes.answered_by(query.reviewer, name)[rows]
                marked[items] = mine if wanted == "mine" else ~mine
            elif wanted in ("disputed", "unsure"):
                marked[items] = votes.states[name][rows] == STATES.index(wanted)
            else:
                marked[items] = (votes.states[name][rows] == 0) == (wanted == "undecided")
        return marked

    def _order(self, query: Query) -> IntArray:
        """Return all items in the query's order, int [M]; equal ones in the queue's order."""
        order: IntArray
        if query.sort == "queue":
            order = self._cached(("order", "queue"), lambda: np.arange(len(self._queue)))
        elif query.sort == "image_id":
            ids = self._faces.image_ids
            order = self._cached(
                ("order", "image_id"), lambda: pc.sort_indices(ids.take(pa.array(self._queue.rows))).to_numpy()
            )
        else:
            sign = 1 if query.sort == "unsure" else -1
            confidence = self._labels(query).confidence
            key = ("order", query.sort, query.attribute)
            order = self._cached(key, lambda: np.argsort(sign * confidence[self._queue.rows], kind="stable"))
        return order

    def _cached(self, key: Any, compute: Callable[[], Any]) -> Any:
        if key not in self._cache:
            self._cache[key] = compute()
            while len(self._cache) > _NUM_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def _count(self, category: Category, matches: BoolArray | None) -> dict[str, int]:
        codes = category.codes[self._queue.rows]
        codes = codes if matches is None else codes[matches]
        counts = np.bincount(codes[codes >= 0], minlength=len(category.names)).tolist()
        return {name: count for name, count in zip(category.names, counts, strict=True) if count}


def _all(masks: Mapping[str, BoolArray], without: str | None, num: int | None = None) -> Any:
    """Combine all masks but one; None, or all of `num`, if there is none."""
    combined: BoolArray | None = None
    for name, mask in masks.items():
        if name != without:
            combined = mask if combined is None else combined & mask
    if combined is None and num is not None:
        return np.ones(num, bool)
    return combined


def _position(names: "tuple[str, ...]", wanted: str) -> int:
    """Return the position of a name; -2, which no code is, without it."""
    return names.index(wanted) if wanted in names else -2
