"""Training tables: human labels, people's answers among them, merged with accepted pseudo-labels; as Parquet.

Shapes: N faces, A attributes, K classes.
"""

from pathlib import Path
from typing import assert_never

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ssl_pipeline.errors import ManifestError, list_of_faults
from ssl_pipeline.faces.answered import AnsweredLabels, answered_codes, human_codes
from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, IntArray, LabelSpace
from ssl_pipeline.pseudo_labels.manifest import Manifest
from ssl_pipeline.runs.files import atomic_path


def merge(
    labeled_train: pd.DataFrame,
    pool: pd.DataFrame,
    manifest: Manifest,
    *,
    labels: LabelSpace,
    answered: AnsweredLabels | None = None,
    guesses: bool = True,
    pool_counts: bool = True,
) -> pd.DataFrame:
    """Merge the human labels and the accepted pseudo-labels into one training table; human labels are never overwritten.

    Known values of the pool's faces are always included. Faces with known values but no accepted pseudo-label count as
    human-labeled; faces with neither are left out. A value that people answered is known, and a guess that they rejected
    or dispute is not used.

    Args:
        labeled_train: face table rows of split ``train``, with the answers about them.
        pool: the face table of the pool, without answers.
        manifest: of that pool.
        labels: the label space.
        answered: the answers about faces of the pool, in place of guesses and of known values.
        guesses: False leaves the pseudo-labels out.
        pool_counts: False counts every face of the pool as pseudo-labeled, with weight 0: it is drawn, and teaches nothing.

    Returns:
        One row per face, human first, then pseudo, each by image id: image_id, content_hash, person_id, pixel_row;
        label_source, 'human' or 'pseudo'; labeled_round, 0 for human, else the manifest's; ``known_<attribute>``, whether
        the attribute is known or accepted; ``weight_<attribute>``, float32, 1 if known, else the pseudo-label's weight;
        target, float32 [K], a distribution over
        classes. Hard targets are uniform over the candidate classes; soft ones are the manifest's, given the answers.

    Raises:
        ManifestError: if the manifest has other labels, lists faces that are labeled or not in the pool, contradicts
            the pool's known values, or lacks an accepted value.
    """
    if manifest.labels != labels:
        raise ManifestError(
            f"{manifest.path}: made for other labels {manifest.labels.to_dict()}, not {labels.to_dict()}; "
            "run `ssl-pipeline run` again"
        )
    _check_not_labeled(manifest, labeled_train)
    readable = (manifest.faces["status"] != "unreadable").to_numpy(bool)
    faces = _faces_of_pool(manifest, readable, pool)
    _check_known(manifest, readable, labels.encode(faces))
    human = _human_rows(labeled_train, labels)
    answers = answered_codes(faces, answered or {}, labels)
    pseudo = _pool_rows(faces, manifest, readable, answers=answers, guesses=guesses, pool_counts=pool_counts)
    table: pd.DataFrame = pd.concat([human, pseudo], ignore_index=True)
    return table.sort_values(["label_source", "image_id"], kind="stable", ignore_index=True)


def human_table(faces: pd.DataFrame, *, labels: LabelSpace) -> pd.DataFrame:
    """Return the table of `merge` without pseudo-labels; faces without a known value are left out."""
    return _human_rows(faces, labels).sort_values("image_id", kind="stable", ignore_index=True)


def write_training_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table of `merge` as Parquet, atomically; equal tables give equal bytes."""
    targets = np.stack(frame["target"].to_list()) if len(frame) else np.zeros((0, 1), np.float32)
    table = pa.Table.from_pandas(frame.drop(columns="target"), preserve_index=False)
    values = pa.array(targets.astype(np.float32).ravel())
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


def _check_not_labeled(manifest: Manifest, labeled: pd.DataFrame) -> None:
    """Refuse pseudo-labels for human-labeled faces, matched by image id or content."""
    rows = manifest.faces[manifest.faces["status"] != "unreadable"]
    same_id = rows["image_id"].isin(labeled["image_id"])
    same_content = rows["content_hash"].isin(labeled["content_hash"].dropna())
    faults = [f"{image_id}: the same image id" for image_id in rows.loc[same_id, "image_id"]]
    faults += [f"{image_id}: the same content" for image_id in rows.loc[same_content & ~same_id, "image_id"]]
    if faults:
        headline = (
            f"{manifest.path}: {len(faults):,} of its faces are human-labeled; "
            "human labels are never overwritten: prepare the faces and run `ssl-pipeline run` again"
        )
        raise ManifestError(list_of_faults(headline, faults))


def _faces_of_pool(manifest: Manifest, readable: BoolArray, pool: pd.DataFrame) -> pd.DataFrame:
    """Return the pool's rows of the manifest's readable faces, in the manifest's order."""
    rows = manifest.faces[readable]
    positions = pd.Index(pool["image_id"]).get_indexer(pd.Index(rows["image_id"]))
    absent = positions == -1
    faces: pd.DataFrame = pool.iloc[positions[~absent]]
    hashes = rows["content_hash"].to_numpy(object)[~absent]
    changed = np.asarray(faces["content_hash"].to_numpy(object) != hashes, dtype=bool)
    faults = [f"{image_id}: not in the pool" for image_id in rows["image_id"][absent]]
    faults += [f"{image_id}: content differs from the pool's" for image_id in faces["image_id"][changed]]
    if faults:
        headline = (
            f"{manifest.path}: {len(faults):,} of its faces are not in this run, so it is a manifest of another run "
            f"(it was made in run '{manifest.identity.run_name}'); run `ssl-pipeline run` for this run first"
        )
        raise ManifestError(list_of_faults(headline, faults))
    return faces


def _check_known(manifest: Manifest, readable: BoolArray, known_codes: IntArray) -> None:
    """Refuse values that contradict the pool's known values, and accepted values that are missing."""
    codes, known_or_accepted = manifest.codes[readable], manifest.known_or_accepted[readable]
    image_ids = manifest.faces["image_id"].to_numpy(object)[readable]
    faults = []
    for face, position in np.argwhere((known_codes != UNKNOWN) & (codes != known_codes)).tolist():
        attribute, code = manifest.labels.attributes[position], codes[face, position]
        value = f"'{attribute.values[code]}'" if code != UNKNOWN else "no value"
        known = attribute.values[known_codes[face, position]]
        faults.append(f"{image_ids[face]}, '{attribute.name}': known as '{known}' in the pool, {value} in the manifest")
    for face, position in np.argwhere(known_or_accepted & (codes == UNKNOWN) & (known_codes == UNKNOWN)).tolist():
        faults.append(f"{image_ids[face]}, '{manifest.labels.names[position]}': accepted, but without a value")
    if faults:
        headline = (
            f"{manifest.path}: {len(faults):,} values contradict the pool's known values; "
            "undo the edit, or run `ssl-pipeline run` again"
        )
        raise ManifestError(list_of_faults(headline, faults))


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
    manifest: Manifest,
    readable: BoolArray,
    *,
    answers: IntArray,
    guesses: bool,
    pool_counts: bool,
) -> pd.DataFrame:
    """Return the training rows of the pool's faces that have a label.

    If a face's answers have no probability, e.g. since its other values were guessed given a known value that people
    corrected, none of its guesses is used.

    Args:
        faces: the pool's rows of the manifest's readable faces, in the manifest's order, N rows.
        manifest: of the pool.
        readable: marks these faces among the manifest's.
        answers: of `answered_codes`, int [N, A].
        guesses: see `merge`.
        pool_counts: see `merge`.
    """
    labels, probabilities = manifest.labels, manifest.probabilities[readable]
    human, answered = human_codes(labels.encode(faces), answers), (answers >= 0).any(axis=1)
    guessed = manifest.accepted[readable] & (answers == UNKNOWN) & guesses
    is_possible = (probabilities[answered] * labels.candidates(human[answered])).sum(axis=1, keepdims=True) > 0
    guessed[answered] &= is_possible
    known = (human != UNKNOWN) | guessed
    targets: FloatArray
    match manifest.targets:
        case "hard":
            codes = np.where(human != UNKNOWN, human, manifest.codes[readable])
            targets = _uniform(np.where(known, codes, UNKNOWN), labels)
        case "soft":
            targets = probabilities
            targets[answered] = labels.condition(targets[answered], human[answered])
        case _:
            assert_never(manifest.targets)
    pseudo = guessed.any(axis=1) | (not pool_counts)
    columns = [f"{name}_weight" for name in labels.names]
    weights = np.where(human != UNKNOWN, 1, manifest.faces.loc[readable, columns].to_numpy(np.float32))
    included = known.any(axis=1)
    return _rows(
        faces[included],
        labels=labels,
        label_sources=np.where(pseudo, "pseudo", "human").astype(object)[included],
        round_index=manifest.identity.round_index,
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
    rows = faces[["image_id", "content_hash", "person_id", "pixel_row"]].reset_index(drop=True)
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
