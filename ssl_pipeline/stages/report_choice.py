"""Which faces a report shows: galleries, and the sample of the map with its features.

Shapes: N rows of the manifest, A attributes, n faces of the sample, m labeled faces, D features.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.evaluation.projection import nearest, project
from ssl_pipeline.labels import BoolArray, IntArray
from ssl_pipeline.pseudo_labels.pool_columns import ATTRIBUTE_STATUSES, align, even_sample, first_of_each, read_pool
from ssl_pipeline.stages.face_features import face_features
from ssl_pipeline.stages.report_context import ReportContext, Shown

PER_GALLERY, NUM_NEAREST = 48, 3
_MAX_LABELED, _MAX_ORIGINS, _FEATURE_SECONDS = 2000, 24, 20
LABEL_ERRORS = "label_errors.parquet"
"""Optional, in the run's folder: image_id, attribute, label, likely_label, score; the most suspicious rows first."""


@dataclass(frozen=True)
class Sample:
    """The faces of the map."""

    pool: IntArray
    """Positions in the manifest, [n]."""
    labeled: IntArray
    """Positions in `ReportContext.labeled`, [m]."""
    features: npt.NDArray[np.float32]
    """Of the pool's faces, then of the labeled ones, float [n + m, D]."""
    nearest: IntArray
    """Of each of the pool's faces the nearest labeled ones, positions in `ReportContext.labeled`, [n, 3]."""
    distances: npt.NDArray[np.float32]
    """1 − cosine, [n, 3]."""


def draw_sample(context: ReportContext) -> Sample | None:
    """Draw faces evenly over classes and confidence, as many as the model sees in seconds; None without a model."""
    pool, model_dir = context.pool, context.model_dir
    readable = np.flatnonzero(context.pixel_rows >= 0)
    if model_dir is None or len(readable) < NUM_NEAREST or len(context.labeled) < NUM_NEAREST:
        return None
    num = int(np.clip(context.speed * _FEATURE_SECONDS // 500 * 500, 1000, 20_000))
    bins = np.nan_to_num(pool.confidence[readable].mean(axis=1) * 10).astype(np.int64)
    sample = readable[even_sample(pool.class_ids[readable].astype(np.int64) * 11 + bins, num, seed=0)]
    strata = pool.labels.known_combinations(context.labeled_codes)
    labeled = even_sample(strata, min(num, _MAX_LABELED), seed=0)
    rows = np.concatenate([context.pixel_rows[sample], context.labeled["pixel_row"].to_numpy(np.int64)[labeled]])
    try:
        features = face_features(context.config, context.run, model_dir, rows)
    except CheckpointError:  # e.g. a backbone without features, or a teacher of features of a table
        return None
    positions, distances = nearest(features[: len(sample)], features[len(sample) :], num=NUM_NEAREST)
    return Sample(sample, labeled, features, labeled[positions], distances)


def choose_galleries(context: ReportContext, sample: Sample | None, shown: Shown) -> list[dict[str, Any]]:
    """Choose each gallery's faces; a gallery names its key and the indices of its faces."""
    pool, strata = context.pool, context.pool.class_ids.astype(np.int64)
    accepted, rejected = pool.is_accepted(), pool.is_rejected()
    lowest = np.where(accepted, pool.confidence, np.inf).min(axis=1)
    highest = np.where(rejected, pool.confidence, -np.inf).max(axis=1)
    any_accepted = accepted.any(axis=1)
    chosen: dict[str, IntArray] = {
        "surest": first_of_each(-lowest, strata, any_accepted, PER_GALLERY),
        "least-sure": first_of_each(lowest, strata, any_accepted, PER_GALLERY),
        "just-rejected": first_of_each(-highest, strata, rejected.any(axis=1), PER_GALLERY),
        "odd": _odd(context, sample),
    }
    if (changed := _changed(context)) is not None:
        chosen["changed"] = first_of_each(-np.nan_to_num(lowest, posinf=0.0), strata, changed, PER_GALLERY)
    if (context.truth >= 0).any():
        wrong = (accepted & (context.truth >= 0) & (context.truth != pool.codes)).any(axis=1)
        chosen["wrong"] = first_of_each(-lowest, strata, wrong, PER_GALLERY)
    galleries = [{"key": key, "faces": shown.add("pool", positions)} for key, positions in chosen.items()]
    if (suspicious := suspicious_labels(context)) is not None:
        positions = pd.Index(context.labeled["image_id"]).get_indexer(pd.Index(suspicious["image_id"]))
        galleries.append({"key": "label-errors", "faces": shown.add("labeled", positions[positions >= 0])})
    return galleries


def suspicious_labels(context: ReportContext) -> pd.DataFrame | None:
    """Return the most suspicious human labels, one per face; None if nobody looked for them."""
    path = context.run.root / LABEL_ERRORS
    return pd.read_parquet(path).drop_duplicates("image_id").head(PER_GALLERY) if path.is_file() else None


def show_nearest(context: ReportContext, sample: Sample | None, shown: Shown) -> None:
    """Show the nearest labeled faces of the galleries' faces, in up to a quarter of the places."""
    if sample is None:
        return
    room = len(shown.rows) + max(context.options.max_faces // 4, 1)
    row_of = {int(position): row for row, position in enumerate(sample.pool)}
    for face in shown.of("pool").tolist():
        if face in row_of and len(shown.rows) + NUM_NEAREST <= room:
            shown.add("labeled", sample.nearest[row_of[face]])


def fill_up(sample: Sample | None, shown: Shown) -> None:
    """Show faces of the sample in the places that are left, spread over the map."""
    if sample is not None:
        shown.add("pool", np.random.default_rng(1).permutation(sample.pool))


def make_map(context: ReportContext, sample: Sample | None, shown: Shown) -> dict[str, Any] | None:
    """Project the sample on a plane; coordinates in 0 … 999, groupings, and the shown face of each point or -1."""
    if sample is None:
        return None
    plane, method = project(sample.features)
    faces = [shown.index.get(("pool", int(row)), -1) for row in sample.pool]
    faces += [shown.index.get(("labeled", int(row)), -1) for row in sample.labeled]
    return {
        "x": (plane[:, 0] * 999).round().astype(int).tolist(),
        "y": (plane[:, 1] * 999).round().astype(int).tolist(),
        "num_labeled": len(sample.labeled),
        "faces": faces,
        "groups": _groups(context, sample),
        "method": method,
        "num_drawn": len(sample.pool),
        "num_pool": len(context.pool),
    }


def _odd(context: ReportContext, sample: Sample | None) -> IntArray:
    """Copies of a picture in the pool, and faces of the sample that are far from all labeled faces."""
    pictures = context.pool.picture
    counts = np.bincount(pictures[pictures >= 0], minlength=1)
    copies = np.flatnonzero((pictures >= 0) & (counts[pictures] > 1))
    copies = copies[np.argsort(pictures[copies], kind="stable")][: PER_GALLERY // 2]
    if sample is None:
        return copies
    far = sample.pool[np.argsort(-sample.distances[:, 0], kind="stable")][: PER_GALLERY - len(copies)]
    return np.concatenate([copies, far])


def _changed(context: ReportContext) -> BoolArray | None:
    """Mark the faces to which the student gives another value; None if it did not label the pool again."""
    path = context.run.pseudo_labels(context.round_index + 1) / "manifest.parquet"
    if not path.is_file():
        return None
    after = read_pool(path)
    table = pa.table({"image_id": after.image_ids, "row": np.arange(len(after))})
    rows = align(context.pool.image_ids, table, "row").fill_null(-1).to_numpy()
    codes = np.where(rows[:, None] >= 0, after.codes[rows], -1)
    return np.asarray(((codes != context.pool.codes) & (codes >= 0)).any(axis=1))


def _groups(context: ReportContext, sample: Sample) -> dict[str, Any]:
    """Group the map's points: per guessed attribute by guess, truth and decision; by origin."""
    pool, groups = context.pool, {}
    own = context.labeled_codes[sample.labeled]
    for position, item in enumerate(pool.labels.attributes):
        status = pool.attribute_status[sample.pool, position]
        if (status == ATTRIBUTE_STATUSES.index("known")).all():
            continue
        guess = np.concatenate([pool.codes[sample.pool, position], own[:, position]])
        groups[f"{item.name}: guess"] = {"values": list(item.values), "codes": guess.tolist()}
        if (context.truth[:, position] >= 0).any():
            truth = np.concatenate([context.truth[sample.pool, position], own[:, position]])
            groups[f"{item.name}: truth"] = {"values": list(item.values), "codes": truth.tolist()}
        decision = np.concatenate([status, np.full(len(sample.labeled), len(ATTRIBUTE_STATUSES))])
        names = ["known before", "accepted", "rejected", "labeled by people"]
        groups[f"{item.name}: decision"] = {"values": names, "codes": decision.tolist()}
    origins = context.origins.take(pa.array(sample.pool)).to_pylist()
    origins += context.labeled["origin"].iloc[sample.labeled].tolist()
    texts = pd.Series(origins, dtype=object).fillna("unknown").astype(str)
    names = sorted(texts.value_counts().index[:_MAX_ORIGINS].tolist())
    groups["origin"] = {"values": names, "codes": pd.Index(names).get_indexer(pd.Index(texts)).tolist()}
    return groups
