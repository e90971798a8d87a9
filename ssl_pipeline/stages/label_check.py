"""Label check stage: likely wrong labels of the training and validation faces, from predictions of models not trained on them.

The test and guarantee faces are left out: who corrects the labels that a model doubts, and no others, turns a fair test
into a kind one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.evaluation.label_errors import contradicting_copies, estimate_joint, score_labels
from ssl_pipeline.faces.independence import independent_units
from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.faces.splitting import assign_folds
from ssl_pipeline.faces.table import read_faces
from ssl_pipeline.labels import UNKNOWN, FloatArray, IntArray, LabelSpace
from ssl_pipeline.learning.linear_head import cross_fitted_probabilities
from ssl_pipeline.learning.predict import CheckpointPredictor, pooled_features
from ssl_pipeline.learning.shard_prediction import read_shards
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import atomic_path, digest_file
from ssl_pipeline.runs.records import faces_digest, finished_stage, run_stage
from ssl_pipeline.stages.versions import VERSIONS

_NUM_FOLDS = 5


@dataclass(frozen=True)
class LabelCheck:
    """The result of a label check."""

    table: pd.DataFrame
    """The content of ``label_errors.parquet``, see `check_labels`."""
    result: Mapping[str, Any]
    """``predictions``, in words, and ``per_attribute``: ``num_labels`` and ``num_expected`` wrong ones, see `estimate_joint`."""
    skipped: bool


def check_labels(config: RunConfig, run: RunDir) -> LabelCheck:
    """Write the labels that look wrong to ``label_errors.parquet`` in the run's folder, the likeliest first.

    Columns: image_id, attribute, label (given), likely_label, score (in [0, 1], the smaller the likelier wrong; 0 if a copy
    contradicts), kind (``prediction``, or ``copy`` if a copy of the same picture has the likely label), probability (of the
    likely label), split, reason (in words). Labels that equal the prediction and contradict no copy have no row.

    Raises:
        RunError: if the run's first teacher is not trained.
    """
    directory, cure = run.root / "label_check", f"train the teacher first: {run.command}"
    checkpoint = run.teacher / "best.safetensors"
    finished_stage(run.teacher / "calibration", cure=cure)
    inputs: dict[str, Any] = {
        "checkpoint": digest_file(checkpoint),
        "faces": faces_digest(config, run),
        "seed": config.seed,
    }
    if config.out_of_fold is not None:
        inputs["out_of_fold"] = finished_stage(run.out_of_fold, cure=cure).outputs

    def work() -> dict[str, Any]:
        faces, probabilities, words = held_out_probabilities(config, run)
        table, per_attribute = find_label_errors(faces, probabilities, config.labels.space)
        directory.mkdir(parents=True, exist_ok=True)
        with atomic_path(run.label_errors) as partial:
            table.to_parquet(partial, index=False)
        return {"predictions": words, "per_attribute": per_attribute, "num_rows": len(table)}

    record = run_stage(
        directory,
        version=VERSIONS["label_check"],
        inputs=inputs,
        outputs=[f"../{run.label_errors.name}"],
        work=work,
    )
    return LabelCheck(pd.read_parquet(run.label_errors), record.result, record.skipped)


def held_out_probabilities(config: RunConfig, run: RunDir) -> tuple[pd.DataFrame, list[FloatArray], str]:
    """Predict the training and validation faces by models that were not trained on them.

    Training faces are predicted by the fold teachers of `out_of_fold`. Without it, linear heads are fitted out of fold on
    the features of the teacher: of a vote, on frozen features, which have seen no label; of a network, on features that
    have seen the labels that they shall doubt, so they find fewer (docs/label-errors.md). Validation faces are predicted by
    the teacher.

    Returns:
        The faces, N rows of the face table; per attribute the probabilities of its values, float [N, V]; and where those
        of the training faces are from, in words.
    """
    labels, labeled = config.labels.space, read_faces(run.faces / "labeled.parquet")
    train, validation = (labeled[labeled["split"] == split] for split in ("train", "validation"))
    predictor = CheckpointPredictor.load(
        run.teacher / "best.safetensors", config.prediction, labels=labels, device=config.device
    )
    pixels = open_pixels(run.faces / "pixels.npy")
    of_validation = labels.attribute_probabilities(predictor.predict(pixels, _rows(validation)))
    if config.out_of_fold is not None:
        of_train = labels.attribute_probabilities(read_shards(run.out_of_fold, train))
        words = "the fold teachers"
    else:
        features = pooled_features(predictor, pixels, _rows(train))
        folds = assign_folds(
            labels.class_ids(labels.encode(train)), independent_units(train), num_folds=_NUM_FOLDS, seed=config.seed
        )
        of_train = cross_fitted_probabilities(features, labels.encode(train), folds, labels)
        words = "linear heads on the teacher's features, fitted out of fold"
    probabilities = [np.concatenate(parts) for parts in zip(of_train, of_validation, strict=True)]
    return pd.concat([train, validation], ignore_index=True), probabilities, words


def find_label_errors(
    faces: pd.DataFrame, probabilities: list[FloatArray], labels: LabelSpace
) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """Return the rows of `check_labels`, and per attribute the numbers of labels and of expected wrong ones.

    Args:
        faces: N rows with image_id, picture_id, split and the attributes.
        probabilities: held-out, per attribute float [N, V].
        labels: the attributes.
    """
    codes, tables, per_attribute = labels.encode(faces), [], {}
    for position, attribute in enumerate(labels.attributes):
        known = np.flatnonzero(codes[:, position] != UNKNOWN)
        given, predicted = codes[known, position], np.asarray(probabilities[position][known], np.float64)
        likely, copies = contradicting_copies(faces["picture_id"].iloc[known].tolist(), given, predicted)
        is_copy = likely != UNKNOWN
        likely = np.where(is_copy, likely, predicted.argmax(axis=1))
        values = np.array(attribute.values, dtype=object)
        table = pd.DataFrame(
            {
                "image_id": faces["image_id"].to_numpy(object)[known],
                "attribute": attribute.name,
                "label": values[given],
                "likely_label": values[likely],
                "score": np.where(is_copy, 0.0, score_labels(predicted, given)),
                "kind": np.where(is_copy, "copy", "prediction").astype(object),
                "probability": predicted[np.arange(len(known)), likely],
                "split": faces["split"].to_numpy(object)[known],
            }
        )
        given_probability = predicted[np.arange(len(known)), given]
        originals = faces["image_id"].to_numpy(object)[known][copies]
        table["reason"] = [
            f"the same picture as {original}, which is labeled {row.likely_label}"
            if row.kind == "copy"
            else f"predicted {row.likely_label} with {row.probability:.2f}, {row.label} with {own:.2f}"
            for row, own, original in zip(table.itertuples(), given_probability, originals, strict=True)
        ]
        tables.append(table[likely != given])
        joint = estimate_joint(predicted, given)
        expected = round(float(len(given) * (joint.sum() - np.trace(joint))))
        per_attribute[attribute.name] = {"num_labels": len(given), "num_expected": expected}
    rows = pd.concat(tables).sort_values(["score", "image_id", "attribute"], ignore_index=True)
    return rows, per_attribute


def _rows(faces: pd.DataFrame) -> IntArray:
    return faces["pixel_row"].to_numpy(np.int64)
