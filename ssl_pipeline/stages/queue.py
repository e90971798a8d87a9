"""Queue: the faces of a run's pool that a person should label next, by the newest student's features and predictions."""

from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.errors import RunError
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import UNKNOWN, BoolArray, FloatArray, LabelSpace
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.pseudo_labels.queue import By, choose, uncertainty
from ssl_pipeline.runs.answers import current_answers, read_answers
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.face_features import face_features
from ssl_pipeline.stages.round_faces import RoundFaces

COLUMNS = ("image_id", "cluster", "score", "reason")


def choose_faces(
    config: RunConfig, run: RunDir, num_faces: int, *, by: By, seed: int = 0, max_candidates: int = 50_000
) -> pd.DataFrame:
    """Choose faces of the pool to label next; never one that people answered about, nor one that is fully known.

    No person of the validation or test split is in the pool, nor is a copy of such a face: `prepare` removes them.

    Args:
        config: of the run.
        run: its directory; the pool must be labeled.
        num_faces: fewer are returned if the pool has fewer.
        by: `random`; `uncertainty`, the least sure ones; or `clusters`, see `pseudo_labels.queue.choose`.
        seed: of the draws and of k-means.
        max_candidates: so many faces are drawn from a larger pool before anything is computed.

    Returns:
        In the order to ask: the columns of `face_columns`, and cluster, score and reason.

    Raises:
        RunError: if the pool is not labeled yet.
    """
    pool, labels = read_faces(run.faces / "unlabeled.parquet"), config.labels.space
    drawn = np.random.default_rng((config.seed, seed)).permutation(len(pool))[:max_candidates]
    pool = pool.iloc[np.sort(drawn)].reset_index(drop=True)
    round_index, manifest = _newest_manifest(run)
    probabilities = _rows(manifest, pool)
    answered = {content for content, _ in current_answers(read_answers(run.answers))}
    known = labels.encode(pool) != UNKNOWN
    is_open = ~known.all(axis=1) & ~pool["content_hash"].isin(answered).to_numpy(bool)
    scores = uncertainty(probabilities, labels, known=known, members=_members(config, run, pool))
    features = None
    if by == "clusters":
        model = run.student(round_index - 1) if round_index > 1 else run.teacher
        features = face_features(config, run, model, pool["pixel_row"].to_numpy(np.int64))[is_open]
    queue = choose(num_faces, by=by, scores=scores[is_open], features=features, seed=seed)
    rows = np.flatnonzero(is_open)[queue.positions]
    reasons = [
        _reason(by, labels, probabilities[row], known[row], int(size))
        for row, size in zip(rows, queue.sizes, strict=True)
    ]
    return pool.iloc[rows].assign(cluster=queue.clusters, score=scores[rows], reason=reasons).reset_index(drop=True)


def _newest_manifest(run: RunDir) -> tuple[int, Manifest]:
    """Return the newest manifest of the pool and its round: the compared student's, if it labeled the pool."""
    rounds = sorted(
        int(path.parent.parent.name[-2:]) for path in run.root.glob("round-*/pseudo_labels/manifest.parquet")
    )
    if not rounds:
        raise RunError(f"{run.root}: its pool is not labeled yet; run the cycle: {run.command}")
    return rounds[-1], read_manifest(run.pseudo_labels(rounds[-1]) / "manifest.parquet")


def _rows(manifest: Manifest, pool: pd.DataFrame) -> FloatArray:
    """Return the manifest's class probabilities of these faces, float [N, K]."""
    readable = (manifest.faces["status"] != "unreadable").to_numpy(bool)
    positions = pd.Index(manifest.faces["image_id"][readable]).get_indexer(pd.Index(pool["image_id"]))
    if (positions < 0).any():
        raise RunError(f"{manifest.path}: not of this run's pool; run `ssl-pipeline run` again")
    return np.asarray(manifest.probabilities[readable][positions], np.float64)


def _members(config: RunConfig, run: RunDir, pool: pd.DataFrame) -> FloatArray | None:
    """Return the probabilities of the first round's teachers that label every face, float [T, N, K]; None of one alone."""
    if not (run.pseudo_labels(1) / "predictions" / "done.json").is_file():
        return None
    faces = RoundFaces(config, run, 1)
    if faces.labels_in_parts or len(faces.member_probabilities) < 2:
        return None
    positions = pd.Index(faces.pool["image_id"]).get_indexer(pd.Index(pool["image_id"]))
    return np.asarray(faces.member_probabilities[:, positions], np.float64)


def _reason(by: By, labels: LabelSpace, probabilities: FloatArray, known: BoolArray, size: int) -> str:
    """Say why a face was chosen: of how many similar ones, and which values of its least sure attribute compete."""
    if by == "random":
        return "drawn at random"
    rivals = []
    for attribute, own, is_known in zip(
        labels.attributes, labels.attribute_probabilities(probabilities[None]), known, strict=True
    ):
        second, first = np.argsort(own[0], kind="stable")[-2:]
        words = f"{attribute.values[first]} {own[0, first]:.2f} or {attribute.values[second]} {own[0, second]:.2f}"
        if not is_known:
            rivals.append((own[0, first] - own[0, second], f"{attribute.name} {words}"))
    unsure = min(rivals)[1]
    return f"the least sure of {size:,} similar faces; {unsure}" if by == "clusters" else unsure


def label_studio_tasks(faces: pd.DataFrame, *, root: Path) -> list[dict[str, Any]]:
    """Return tasks for Label Studio, with images as its local storage names them: relative to its document root.

    Args:
        faces: of `choose_faces`.
        root: the config's ``faces.root``, and Label Studio's document root.
    """
    tasks = []
    for face in faces.to_dict("records"):
        path = Path(face["image_path"])
        relative = path.relative_to(root) if path.is_relative_to(root) else path
        image = f"/data/local-files/?d={quote(relative.as_posix())}"
        tasks.append({"data": {"image": image, **{name: face[name] for name in COLUMNS}}})
    return tasks


def label_studio_interface(labels: LabelSpace) -> str:
    """Return the labeling interface for these tasks: the image, and one choice per attribute."""
    choices = "".join(
        f'  <Choices name={quoteattr(attribute.name)} toName="image" choice="single" showInline="true">\n'
        + f"    <Header value={quoteattr(attribute.name)}/>\n"
        + "".join(f"    <Choice value={quoteattr(value)}/>\n" for value in attribute.values)
        + "  </Choices>\n"
        for attribute in labels.attributes
    )
    return (
        f'<View>\n  <Image name="image" value="$image"/>\n  <Text name="reason" value="$reason"/>\n{choices}</View>\n'
    )
