"""Contact sheet of a round's pseudo-labels, from drawn faces only: it is shown in Prefect's UI."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.faces.decoding import read_picture
from ssl_pipeline.pseudo_labels.manifest import Manifest, read_manifest
from ssl_pipeline.reports.contact_sheet import contact_sheet
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import atomic_path

NUM_FACES, COLUMNS, SIDE = 24, 8, 96


def render_label_sheet(config: RunConfig, run: RunDir, round_index: int) -> Path | None:
    """Write a contact sheet of faces and labels, sampled evenly from the highest to the lowest confidence.

    Returns:
        The picture, next to the manifest; None if any source of the pool may show real people.
    """
    if any(source.type != "drawn" for source in config.faces.unlabeled.sources):
        return None
    directory = run.pseudo_labels(round_index)
    manifest = read_manifest(directory / "manifest.parquet")
    faces = manifest.faces[manifest.faces["status"] != "unreadable"]
    confidence = faces[[f"{name}_confidence" for name in manifest.labels.names]].mean(axis=1).to_numpy(float)
    order = np.argsort(-confidence, kind="stable")
    ranks = np.linspace(0, len(faces) - 1, min(NUM_FACES, len(faces))).round().astype(int)
    images, captions = [], []
    for face in faces.iloc[order[ranks]].to_dict("records"):
        picture = read_picture(str(face["image_path"]))
        images.append(Image.new("RGB", (SIDE, SIDE), "lightgray") if isinstance(picture, str) else picture)
        captions.append(_caption(face, manifest))
    title = (
        f"Drawn faces of the pool with labels of round {round_index}, by falling confidence; in brackets: not accepted"
    )
    path = directory / "drawn_faces.png"
    with atomic_path(path) as temporary:
        sheet = contact_sheet(images, captions, columns=COLUMNS, title=title, side=SIDE)
        sheet.quantize(256).save(temporary, format="PNG")  # a third of the bytes; the page embeds the file
    return path


def _caption(face: dict[Any, Any], manifest: Manifest) -> str:
    lines = []
    for name in manifest.labels.names:
        label = f"{face[name]} {face[f'{name}_confidence']:.2f}"
        lines.append(label if face[f"{name}_status"] in ("accepted", "known") else f"({label})")
    return "\n".join(lines)
