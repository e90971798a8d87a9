"""Queues of a review: all faces, an audit sample, a file, and likely wrong labels of people.

Shapes: M items of a queue, N faces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.errors import ManifestError, RunError
from ssl_pipeline.labels import IntArray
from ssl_pipeline.pseudo_labels.manifest import read_manifest
from ssl_pipeline.review.faces import ReviewFaces
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of

ANY = -1
"""An item of any attribute: the one in hand."""
LABEL_ERRORS = "label_errors.parquet"


@dataclass(frozen=True)
class Queue:
    """What is reviewed, in which order, and why."""

    name: str
    """Recorded with each answer."""
    title: str
    """One sentence for the reviewer."""
    rows: IntArray
    """int [M], of the faces."""
    attributes: IntArray
    """int [M], the attribute that an item asks for, or `ANY`."""
    reasons: Sequence[str] = ()
    """M texts, or none."""
    sample: pd.DataFrame | None = None
    """Of an audit: unit and value of each item, M rows in their order."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_audit(self) -> bool:
        """Whether it is a random sample: guesses are hidden, and answers count for precision."""
        return self.sample is not None


def open_queue(wanted: str, faces: ReviewFaces, run: RunDir, *, num: int = 100, seed: int = 0) -> Queue:
    """Open a queue.

    Args:
        wanted: ``all``, ``audit``, ``label-errors`` or a CSV file.
        faces: N faces.
        run: the run.
        num: labels of an audit.
        seed: of an audit; equal seeds give equal samples.

    Raises:
        ManifestError: if an audit cannot be sampled.
        RunError: if the file is missing, or has no face of the run.
    """
    match wanted:
        case "all":
            rows = np.arange(len(faces))
            title = f"{faces.num_pool:,} faces of the pool and {len(faces) - faces.num_pool:,} labeled ones"
            return Queue("all", title, rows, np.full(len(rows), ANY))
        case "audit":
            return _audit(faces, num=num, seed=seed)
        case "label-errors":
            return _label_errors(faces, run.root / LABEL_ERRORS)
        case _:
            return _from_file(faces, Path(wanted))


def _audit(faces: ReviewFaces, *, num: int, seed: int) -> Queue:
    from ssl_pipeline.pseudo_labels.audit import sample_audit  # SciPy's distributions take seconds

    if faces.manifest.selection["settings"].get("per") == "class":
        raise ManifestError(
            f"{faces.manifest.path}: its labels are selected per class, and this page asks per attribute; "
            "`ssl-pipeline manifest audit` judges them"
        )
    sample = sample_audit(read_manifest(faces.manifest.path), num=num, seed=seed)
    sample = sample.sample(frac=1, random_state=seed).reset_index(drop=True)  # the order would tell the guesses
    names = faces.manifest.labels.names
    rows = faces.rows_of(sample["image_id"].tolist())
    identity = faces.manifest.identity
    digest = digest_of([identity.faces_digest, identity.teacher_digest, identity.selection_digest])[:8]
    return Queue(
        name=f"audit-{digest}-{num}-{seed}",
        title=f"Audit: {len(sample):,} accepted labels, equally many per value. Answer all of them; the guess is hidden",
        rows=rows,
        attributes=np.array([names.index(name) for name in sample["attribute"]], dtype=np.int64),
        sample=sample[["attribute", "value", "confidence", "unit"]],
    )


def _label_errors(faces: ReviewFaces, path: Path) -> Queue:
    try:
        table = pq.read_table(path).to_pandas()
        names = faces.manifest.labels.names
        table = table[table["attribute"].isin(names)]
        rows = faces.rows_of(table["image_id"].tolist())
        reasons = [
            f"labeled {label}, likely {likely} ({kind})"
            for label, likely, kind in zip(table["label"], table["likely_label"], table["kind"], strict=True)
        ]
        attributes = np.array([names.index(name) for name in table["attribute"]], dtype=np.int64)
    except FileNotFoundError:
        raise RunError(f"{path}: no such file; this run has no table of likely wrong labels") from None
    except (pa.ArrowException, KeyError) as error:
        raise RunError(f"{path}: not a table of likely wrong labels ({error}); delete it and make it again") from None
    return _known_only(Queue("label-errors", "labels of people, likely wrong ones first", rows, attributes, reasons))


def _from_file(faces: ReviewFaces, path: Path) -> Queue:
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"--queue {path}: not a readable CSV file ({error}); give audit, label-errors or a file of `ssl-pipeline queue`"
        ) from None
    if "image_id" not in table:
        raise RunError(
            f"--queue {path}: no column 'image_id', got {', '.join(table.columns)}; the first line names columns"
        )
    names = faces.manifest.labels.names
    attributes = np.array(
        [names.index(name) if name in names else ANY for name in table.get("attribute", pd.Series("", table.index))],
        dtype=np.int64,
    )
    rows = faces.rows_of(table["image_id"].tolist())
    reasons = table["reason"].tolist() if "reason" in table else [""] * len(table)
    queue = _known_only(
        Queue(f"file-{path.stem[:40]}", f"{len(table):,} faces of {path.name}", rows, attributes, reasons)
    )
    if not len(queue):
        raise RunError(
            f"--queue {path}: none of its {len(table):,} faces is one of this run, e.g. {table['image_id'][:1].tolist()}"
        )
    return queue


def _known_only(queue: Queue) -> Queue:
    """Leave out items that are no face of the review, e.g. test faces; the title counts them."""
    kept = np.flatnonzero(queue.rows >= 0)
    num_missing = len(queue) - len(kept)
    title = f"{queue.title} ({num_missing:,} are not in this run, or for testing)" if num_missing else queue.title
    reasons = [queue.reasons[position] for position in kept.tolist()]
    return Queue(queue.name, title, queue.rows[kept], queue.attributes[kept], reasons)
