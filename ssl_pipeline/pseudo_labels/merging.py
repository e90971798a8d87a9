"""Training tables: human labels, people's answers among them, merged with accepted pseudo-labels; as Parquet.

Shapes: N faces, A attributes, K classes.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_pipeline.errors import ManifestError, list_of_faults
from ssl_pipeline.faces.answered import AnsweredLabels, answered_codes, human_codes
from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.manifest import AnyManifest, Manifest, manifest_parts
from ssl_pipeline.runs.files import atomic_path

_FACE_COLUMNS = ["image_id", "content_hash", "person_id", "pixel_row"]


def merge(
    labeled_train: pd.DataFrame,
    pool: pd.DataFrame,
    manifest: AnyManifest,
    *,
    labels: LabelSpace,
    answered: AnsweredLabels | None = None,
    guesses: bool = True,
    pool_counts: bool = True,
) -> pd.DataFrame:
    """Merge the human labels and the accepted pseudo-labels into one training table; human labels are never overwritten.

    Known values of the pool's faces are always included. Faces with known values but no accepted pseudo-label count as
    human-labeled; faces with neither are left out. A value that people answered is known, and a guess that they rejected
    or dispute is not used. A manifest on disk is read batch by batch, and only the faces with a label are kept.

    Args:
        labeled_train: face table rows of split ``train``, with the answers about them.
        pool: the face table of the pool, without answers: `pool_columns`.
        manifest: of that pool.
        labels: the label space.
        answered: the answers about faces of the pool, in place of guesses and of known values.
        guesses: False leaves the pseudo-labels out.
        pool_counts: False counts every face of the pool as pseudo-labeled, with weight 0: it is drawn, and teaches nothing.

    Returns:
        One row per face, human first, then pseudo, each by image id: image_id, content_hash, person_id, pixel_row;
        label_source, 'human' or 'pseudo'; labeled_round, 0 for human, else the manifest's; ``known_<attribute>``, whether
        the attribute is known or accepted; ``weight_<attribute>``, float32, 1 if known, else the pseudo-label's weight;
        target, float32 [K], a distribution over classes. Hard targets are uniform over the candidate classes; soft ones
        are the manifest's, given the answers.

    Raises:
        ManifestError: if the manifest has other labels, lists faces that are labeled or not in the pool, contradicts
            the pool's known values, or lacks an accepted value.
    """
    if manifest.labels != labels:
        raise ManifestError(
            f"{manifest.path}: made for other labels {manifest.labels.to_dict()}, not {labels.to_dict()}; "
            "run `ssl-pipeline run` again"
        )
    finder, tables, faults = _Finder(pool), [_human_rows(labeled_train, labels)], _Faults()
    for part in manifest_parts(manifest, _columns_read(labels)):
        part = Manifest.of(part, part.table.filter(pc.not_equal(part.table["status"], "unreadable")))
        faces = _faces_of_pool(part, finder, faults)
        faults.labeled += _labeled_faces(part, labeled_train)
        if not faults.labeled and not faults.foreign:
            faults.contradicting += _contradictions(part, labels.encode(faces))
            answers = answered_codes(faces, answered or {}, labels)
            tables.append(_pool_rows(faces, part, answers=answers, guesses=guesses, pool_counts=pool_counts))
    faults.check(manifest)
    table: pd.DataFrame = pd.concat(tables, ignore_index=True)
    tables.clear()
    keys = pa.table({name: pa.array(table[name], pa.large_string()) for name in ("label_source", "image_id")})
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    return table.iloc[np.asarray(order)].reset_index(drop=True)


def pool_columns(labels: LabelSpace) -> list[str]:
    """Return the columns of the pool's face table that `merge` needs."""
    return [*_FACE_COLUMNS, *labels.names]


def _columns_read(labels: LabelSpace) -> list[str]:
    """Return the columns of a manifest that `merge` needs."""
    of_attributes = [column for name in labels.names for column in (name, f"{name}_status", f"{name}_weight")]
    return ["image_id", "content_hash", "status", *of_attributes, "class_probabilities"]


def human_table(faces: pd.DataFrame, *, labels: LabelSpace) -> pd.DataFrame:
    """Return the table of `merge` without pseudo-labels; faces without a known value are left out."""
    return _human_rows(faces, labels).sort_values("image_id", kind="stable", ignore_index=True)


def write_training_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table of `merge` as Parquet, atomically; equal tables give equal bytes."""
    targets = np.stack(frame["target"].to_list(), dtype=np.float32) if len(frame) else np.zeros((0, 1), np.float32)
    table = pa.Table.from_pandas(frame.drop(columns="target"), preserve_index=False)
    values = pa.array(targets.ravel())
    table = table.append_column("target", pa.FixedSizeListArray.from_arrays(values, targets.shape[1]))
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd")


def read_training_table(path: Path) -> pd.DataFrame:
    """Read a table of `write_training_table`.

    Raises:
        ManifestError: if the file is missing or cannot be read.
    """
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such file; `ssl-pipeline run` writes a student's training table") from None
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ManifestError(f"{path}: not a readable training table ({reason}); delete it and run again") from None
    targets = table["target"].combine_chunks()
    frame: pd.DataFrame = table.drop_columns(["target"]).to_pandas()
    values = targets.flatten().to_numpy(zero_copy_only=False).reshape(len(frame), targets.type.list_size)
    frame["target"] = pd.Series(list(values), dtype=object)
    return frame


@dataclass
class _Faults:
    """What is wrong with a manifest, one line per face or value."""

    labeled: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    contradicting: list[str] = field(default_factory=list)

    def check(self, manifest: AnyManifest) -> None:
        """Refuse a manifest with faults."""
        if faults := self.labeled:
            what = "of its faces are human-labeled; human labels are never overwritten: prepare the faces and run `ssl-pipeline run` again"
        elif faults := self.foreign:
            what = (
                "of its faces are not in this run, so it is a manifest of another run "
                f"(it was made in run '{manifest.identity.run_name}'); run `ssl-pipeline run` for this run first"
            )
        elif faults := self.contradicting:
            what = "values contradict the pool's known values; undo the edit, or run `ssl-pipeline run` again"
        if faults:
            raise ManifestError(list_of_faults(f"{manifest.path}: {len(faults):,} {what}", faults))


class _Finder:
    """Finds faces of the pool by image id, within the range of a batch's ids: an index of all takes much memory."""

    def __init__(self, pool: pd.DataFrame) -> None:
        image_ids = pa.chunked_array([pa.array(pool["image_id"], pa.large_string())])
        if pc.any(pc.greater(image_ids[:-1], image_ids[1:])).as_py():
            order = pc.array_sort_indices(image_ids)
            pool, image_ids = pool.iloc[np.asarray(order)], image_ids.take(order)
        self._pool, self._image_ids = pool, image_ids

    def find(self, image_ids: "pd.Series[Any]") -> tuple[pd.DataFrame, BoolArray]:
        """Return the rows of the faces that are found, and mark the others, bool [N]."""
        if not len(image_ids):
            return self._pool[:0], np.zeros(0, bool)
        everyone = range(len(self._image_ids))
        first = bisect_left(everyone, image_ids.min(), key=self._image_id)
        last = bisect_right(everyone, image_ids.max(), key=self._image_id)
        near = self._pool.iloc[first:last]
        positions = pd.Index(near["image_id"]).get_indexer(pd.Index(image_ids))
        return near.iloc[positions[positions >= 0]], positions < 0

    def _image_id(self, position: int) -> str:
        return str(self._image_ids[position])


def _labeled_faces(part: Manifest, labeled: pd.DataFrame) -> list[str]:
    """Describe pseudo-labels for human-labeled faces, matched by image id or content."""
    rows = part.faces
    same_id = rows["image_id"].isin(labeled["image_id"])
    same_content = rows["content_hash"].isin(labeled["content_hash"].dropna())
    faults = [f"{image_id}: the same image id" for image_id in rows.loc[same_id, "image_id"]]
    return faults + [f"{image_id}: the same content" for image_id in rows.loc[same_content & ~same_id, "image_id"]]


def _faces_of_pool(part: Manifest, finder: _Finder, faults: _Faults) -> pd.DataFrame:
    """Return the pool's rows of a part's faces, in its order; report those that are not in the pool."""
    rows = part.faces
    faces, absent = finder.find(rows["image_id"])
    hashes = rows["content_hash"].to_numpy(object)[~absent]
    changed = np.asarray(faces["content_hash"].to_numpy(object) != hashes, dtype=bool)
    faults.foreign += [f"{image_id}: not in the pool" for image_id in rows["image_id"][absent]]
    faults.foreign += [f"{image_id}: content differs from the pool's" for image_id in faces["image_id"][changed]]
    return faces


def _contradictions(part: Manifest, known_codes: IntArray) -> list[str]:
    """Describe values that contradict the pool's known values, and accepted values that are missing."""
    codes, image_ids, faults = part.codes, part.faces["image_id"], []
    for face, position in np.argwhere((known_codes != UNKNOWN) & (codes != known_codes)).tolist():
        attribute, code = part.labels.attributes[position], codes[face, position]
        value = f"'{attribute.values[code]}'" if code != UNKNOWN else "no value"
        known = attribute.values[known_codes[face, position]]
        faults.append(
            f"{image_ids.iloc[face]}, '{attribute.name}': known as '{known}' in the pool, {value} in the manifest"
        )
    for face, position in np.argwhere(part.known_or_accepted & (codes == UNKNOWN) & (known_codes == UNKNOWN)).tolist():
        faults.append(f"{image_ids.iloc[face]}, '{part.labels.names[position]}': accepted, but without a value")
    return faults


def _human_rows(labeled_train: pd.DataFrame, labels: LabelSpace) -> pd.DataFrame:
    codes = labels.encode(labeled_train)
    is_labeled = (codes != UNKNOWN).any(axis=1)
    faces, codes = labeled_train[is_labeled], codes[is_labeled]
    return _rows(
        faces,
        labels=labels,
        label_sources=np.full(len(faces), "human", dtype=object),
        round_index=0,
        weights=np.ones(codes.shape, np.float32),
        known=codes != UNKNOWN,
        targets=_uniform(codes, labels),
    )


def _pool_rows(
    faces: pd.DataFrame,
    part: Manifest,
    *,
    answers: IntArray,
    guesses: bool,
    pool_counts: bool,
) -> pd.DataFrame:
    """Return the training rows of the pool's faces that have a label.

    If a face's answers have no probability, e.g. since its other values were guessed given a known value that people
    corrected, none of its guesses is used.

    Args:
        faces: the pool's rows of the part's faces, in its order, N rows.
        part: readable faces of the manifest.
        answers: of `answered_codes`, int [N, A].
        guesses: see `merge`.
        pool_counts: see `merge`.
    """
    labels, probabilities = part.labels, part.probabilities
    human, answered = human_codes(labels.encode(faces), answers), (answers >= 0).any(axis=1)
    guessed = part.accepted & (answers == UNKNOWN) & guesses
    is_possible = (probabilities[answered] * labels.candidates(human[answered])).sum(axis=1, keepdims=True) > 0
    guessed[answered] &= is_possible
    known = (human != UNKNOWN) | guessed
    targets: FloatArray
    match part.targets:
        case "hard":
            codes = np.where(human != UNKNOWN, human, part.codes)
            targets = _uniform(np.where(known, codes, UNKNOWN), labels)
        case "soft":
            targets = probabilities
            targets[answered] = labels.condition(targets[answered], human[answered])
        case _:
            assert_never(part.targets)
    pseudo = guessed.any(axis=1) | (not pool_counts)
    columns = [f"{name}_weight" for name in labels.names]
    weights = np.where(human != UNKNOWN, 1, part.faces[columns].to_numpy(np.float32))
    included = known.any(axis=1)
    return _rows(
        faces[included],
        labels=labels,
        label_sources=np.where(pseudo, "pseudo", "human").astype(object)[included],
        round_index=part.identity.round_index,
        weights=np.where(known & pool_counts, weights, 0).astype(np.float32)[included],
        known=known[included],
        targets=targets[included],
    )


def _rows(
    faces: pd.DataFrame,
    *,
    labels: LabelSpace,
    label_sources: npt.NDArray[np.object_],
    round_index: int,
    weights: npt.NDArray[np.float32],
    known: BoolArray,
    targets: FloatArray,
) -> pd.DataFrame:
    """Build rows of the training table; arrays are in the order of `faces`."""
    rows = faces[_FACE_COLUMNS].reset_index(drop=True)
    rows["pixel_row"] = rows["pixel_row"].astype(np.int64)
    rows["label_source"] = pd.Series(label_sources, dtype="str")
    rows["labeled_round"] = np.where(label_sources == "human", 0, round_index).astype(np.int64)
    for position, name in enumerate(labels.names):
        rows[f"known_{name}"] = known[:, position]
        rows[f"weight_{name}"] = weights[:, position]
    rows["target"] = pd.Series(list(targets.astype(np.float32)), dtype=object)
    return rows


def _uniform(codes: IntArray, labels: LabelSpace) -> FloatArray:
    """Return uniform distributions over each face's candidate classes, float [N, K], rows sum to 1."""
    candidates = labels.candidates(codes)
    return np.asarray(candidates / candidates.sum(axis=1, keepdims=True))
