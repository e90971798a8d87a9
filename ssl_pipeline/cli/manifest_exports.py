"""The formats of `ssl-pipeline manifest export`: each writes a manifest's rows and returns what to say about it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ssl_pipeline.errors import ManifestError, RunError
from ssl_pipeline.pseudo_labels.manifest import manifest_parts
from ssl_pipeline.pseudo_labels.manifest_columns import manifest_schema
from ssl_pipeline.pseudo_labels.manifest_file import ManifestFile
from ssl_pipeline.reports.embedding_atlas import Projection, X, Y, write_embedding_atlas
from ssl_pipeline.reports.fiftyone import write_fiftyone
from ssl_pipeline.reports.label_studio import CONFIG, TASKS, write_label_studio
from ssl_pipeline.reports.spreadsheets import Rows, export_csv, export_parquet
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.records import finished_stage

_NUM_FITTED = 20_000
"""Faces that the axes of the map are fitted on."""


def _csv(file: ManifestFile, out: Path) -> list[str]:
    parts = (Rows(part.table, part.faces, part.probabilities) for part in manifest_parts(file))
    return [_written(export_csv(out, parts, file.labels.class_names), out)]


def _parquet(file: ManifestFile, out: Path) -> list[str]:
    schema = manifest_schema(file.labels).with_metadata(file.schema_metadata)
    return [_written(export_parquet(out, file.tables(), schema), out)]


def _fiftyone(file: ManifestFile, out: Path) -> list[str]:
    num_faces = write_fiftyone(_folder(out), _faces(file), file.labels)
    how = f"fiftyone.Dataset.from_dir({str(out)!r}, dataset_type=fiftyone.types.LegacyFiftyOneDataset)"
    return [_written(num_faces, out), f"import: {how}"]


def _label_studio(file: ManifestFile, out: Path) -> list[str]:
    identity = file.identity
    model_version = f"{identity.run_name}, round {identity.round_index}, teacher {identity.teacher_digest[:12]}"
    num_faces = write_label_studio(
        _folder(out), _faces(file), file.labels, model_version=model_version, root=Path.cwd()
    )
    return [
        _written(num_faces, out),
        f"start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
        f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={Path.cwd()}; paste {CONFIG} into the project's labeling interface, and "
        f"import {TASKS}",
    ]


def _embedding_atlas(file: ManifestFile, out: Path) -> list[str]:
    projection = _projection(file)
    num_faces = write_embedding_atlas(out, _faces(file), file.labels, projection)
    axes = f" --x {X} --y {Y}" if projection is not None else ""
    return [_written(num_faces, out), f"open: embedding-atlas {out} --image image{axes}"]


EXPORTS: Mapping[str, Callable[[ManifestFile, Path], list[str]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "fiftyone": _fiftyone,
    "label-studio": _label_studio,
    "embedding-atlas": _embedding_atlas,
}


def _projection(file: ManifestFile) -> Projection | None:
    """Project the features that the run keeps on their first two principal components; None without features."""
    from sklearn.decomposition import PCA

    run = RunDir.around(file.path)
    found = sorted(run.features.glob("*/features.npy"))
    if not found:
        return None
    try:
        for directory in (run.faces, found[0].parent):
            finished_stage(directory, cure="")
    except RunError:  # changed since
        return None
    features = np.load(found[0], mmap_mode="r", allow_pickle=False)
    pool = pd.read_parquet(run.faces / "unlabeled.parquet", columns=["image_id", "pixel_row"])
    rows = pool["pixel_row"].to_numpy(np.int64)
    sample = np.sort(np.random.default_rng(0).choice(rows, min(_NUM_FITTED, len(rows)), replace=False))
    if min(len(sample), features.shape[1]) < 2:
        return None
    axes = PCA(n_components=2, random_state=0).fit(features[sample])
    row_of = pd.Series(rows, index=pool["image_id"])

    def project(image_ids: list[str]) -> np.ndarray:
        chosen = row_of.reindex(image_ids).to_numpy(float, na_value=np.nan)
        known, points = np.isfinite(chosen), np.full((len(image_ids), 2), np.nan)
        if known.any():
            points[known] = axes.transform(features[chosen[known].astype(np.int64)])
        return points

    return project


def _faces(file: ManifestFile) -> Iterator[pd.DataFrame]:
    for part in manifest_parts(file, file.columns(None)):
        yield part.faces


def _folder(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise ManifestError(f"--out {out}: is a file; give a folder")
    return out


def _written(num_faces: int, out: Path) -> str:
    return f"{num_faces:,} faces written to {out}"
