"""The faces of a report: records of the shown ones, their pictures, and what the decisions looked at."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ssl_pipeline.faces.pixels import open_pixels
from ssl_pipeline.labels import IntArray
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.learning.saliency import saliency
from ssl_pipeline.pseudo_labels.pool_columns import ATTRIBUTE_STATUSES, STATUSES, align, read_pool
from ssl_pipeline.reports.thumbnails import thumbnails
from ssl_pipeline.stages.report_choice import (
    Sample,
    choose_galleries,
    draw_sample,
    fill_up,
    make_map,
    show_nearest,
    suspicious_labels,
)
from ssl_pipeline.stages.report_context import ReportContext, Shown

_SALIENCY_SECONDS = 15


def report_faces(context: ReportContext) -> dict[str, Any]:
    """Choose the faces of a report and collect what is shown of them, JSON-able: faces, galleries and the map."""
    shown, sample = Shown(limit=context.options.max_faces), draw_sample(context)
    galleries = choose_galleries(context, sample, shown)
    looked_at = _saliency(context, shown.of("pool"))
    show_nearest(context, sample, shown)
    fill_up(sample, shown)
    records = _records(context, sample, shown, looked_at)
    pictures = _pictures(context, [record.pop("row") for record in records])
    return {
        "attributes": [{"name": item.name, "values": list(item.values)} for item in context.pool.labels.attributes],
        "faces": [{**record, "picture": picture} for record, picture in zip(records, pictures, strict=True)],
        "galleries": galleries,
        "map": make_map(context, sample, shown),
    }


def _records(
    context: ReportContext, sample: Sample | None, shown: Shown, looked_at: Mapping[int, Any]
) -> list[dict[str, Any]]:
    positions = shown.of("pool")
    columns = ["image_id", "image_path", "source", "reason", "class_probabilities"]
    columns += [f"{name}_reason" for name in context.pool.labels.names]
    guesses, near = _guesses_of_rounds(context, positions), _near(sample, shown)
    records = {
        ("pool", face): {
            **_pool_record(context, face, row),
            "near": near.get(face, []),
            "rounds": guesses[face],
            "heat": looked_at.get(face),
        }
        for face, row in zip(positions.tolist(), context.pool.rows(positions, columns), strict=True)
    }
    suspicions = _suspicions(context)
    for face in shown.of("labeled").tolist():
        records["labeled", face] = _labeled_record(context, face, suspicions)
    return [records[key] for key in shown.rows]


def _pool_record(context: ReportContext, face: int, row: Mapping[str, Any]) -> dict[str, Any]:
    pool, probabilities = context.pool, row["class_probabilities"]
    marginals: list[Any] = [None] * len(pool.labels.attributes)
    if probabilities is not None:
        parts = pool.labels.attribute_probabilities(np.array([probabilities], np.float64))
        marginals = [part[0].round(4).tolist() for part in parts]
    labels = [
        {
            "value": int(pool.codes[face, position]),
            "confidence": _number(pool.confidence[face, position]),
            "status": ATTRIBUTE_STATUSES[pool.attribute_status[face, position]],
            "reason": row[f"{name}_reason"],
            "truth": int(context.truth[face, position]),
            "probabilities": marginals[position],
        }
        for position, name in enumerate(pool.labels.names)
        if pool.attribute_status[face, position] >= 0
    ]
    return {
        "kind": "pool",
        "id": row["image_id"],
        "path": row["image_path"],
        "source": row["source"],
        "status": STATUSES[pool.status[face]],
        "reason": row["reason"],
        "labels": labels,
        "row": int(context.pixel_rows[face]),
    }


def _labeled_record(context: ReportContext, face: int, suspicions: Mapping[str, str]) -> dict[str, Any]:
    row, codes = context.labeled.iloc[face], context.labeled_codes[face].tolist()
    return {
        "kind": "labeled",
        "id": str(row["image_id"]),
        "path": str(row["image_path"]),
        "source": str(row["source"]),
        "status": str(row["split"]),
        "reason": suspicions.get(str(row["image_id"]), ""),
        "labels": [{"value": code, "status": "human"} for code in codes],
        "row": int(row["pixel_row"]),
    }


def _suspicions(context: ReportContext) -> dict[str, str]:
    """Return why a human label is suspicious, by image id."""
    table = suspicious_labels(context)
    rows = [] if table is None else table.to_dict("records")
    return {
        str(row["image_id"]): f"{row['attribute']}: labeled {row['label']}, likely {row['likely_label']} (score {row['score']:.3f})"
        for row in rows
    }


def _near(sample: Sample | None, shown: Shown) -> dict[int, list[list[Any]]]:
    """Return index and distance of the nearest labeled faces that are shown, by position of the pool's face."""
    if sample is None:
        return {}
    return {
        int(face): [
            [shown.index["labeled", int(own)], round(float(distance), 3)]
            for own, distance in zip(sample.nearest[row], sample.distances[row], strict=True)
            if ("labeled", int(own)) in shown.index
        ]
        for row, face in enumerate(sample.pool)
    }


def _guesses_of_rounds(context: ReportContext, positions: IntArray) -> dict[int, list[dict[str, Any]]]:
    """Return what each round's model guessed of the shown faces, by position."""
    guesses: dict[int, list[dict[str, Any]]] = {int(position): [] for position in positions}
    ids = context.pool.image_ids.take(pa.array(positions))
    for path in sorted(context.run.root.glob("round-*/pseudo_labels/manifest.parquet")):
        other = read_pool(path)
        if other.labels != context.pool.labels:
            continue
        table = pa.table({"image_id": other.image_ids, "row": np.arange(len(other))})
        rows = align(ids, table, "row").fill_null(-1).to_numpy().tolist()
        number = int(other.metadata["identity"]["round_index"])
        for position, row in zip(positions.tolist(), rows, strict=True):
            if row >= 0 and other.attribute_status[row, 0] >= 0:
                cells = zip(other.codes[row], other.confidence[row], other.attribute_status[row], strict=True)
                labels = [[int(code), _number(share), ATTRIBUTE_STATUSES[status]] for code, share, status in cells]
                guesses[position].append({"round": number, "labels": labels})
    return guesses


def _saliency(context: ReportContext, faces: IntArray) -> dict[int, list[str]]:
    """Return Grad-CAM of the model that labeled the pool, by position: per attribute, lines of hexadecimal digits."""
    checkpoint, options = context.teacher_dir / "best.safetensors", context.options
    faces = faces[context.pixel_rows[faces] >= 0]
    faces = faces[: int(np.clip(context.speed * _SALIENCY_SECONDS / (3 * len(context.pool.labels.names)), 30, 1000))]
    if not options.faces or options.blur or not checkpoint.is_file() or not len(faces):
        return {}
    predictor = CheckpointPredictor.load(checkpoint, context.config.prediction, device=context.config.device)
    pixels, codes = open_pixels(context.run.faces / "pixels.npy"), context.pool.codes[faces].astype(np.int64)
    heat = saliency(predictor, pixels, context.pixel_rows[faces], codes)
    if heat is None:
        return {}
    digits = (heat * 15).round().astype(int).tolist()
    return {
        int(face): ["/".join("".join(f"{cell:x}" for cell in line) for line in own) for own in digits[number]]
        for number, face in enumerate(faces)
    }


def _pictures(context: ReportContext, rows: list[int]) -> list[str | None]:
    path = context.run.faces / "pixels.npy"
    if not context.options.faces or not path.is_file():
        return [None] * len(rows)
    readable = [row for row in rows if row >= 0]
    pictures = iter(thumbnails(open_pixels(path), readable, blur=context.options.blur))
    return [next(pictures) if row >= 0 else None for row in rows]


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
