"""A picture of how faces of the pool were labeled, for a page that others see: of drawn faces only, never of a person."""

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
    """Draw some faces of a round's manifest with what was decided of each, from the surest to the least sure.

    Returns:
        The picture, beside the manifest; None where a source of the pool is not drawn from parameters.
    """
    if any(source.type != "drawn" for source in config.faces.unlabeled.sources):
        return None
    directory = run.pseudo_labels(round_index)
    manifest = read_manifest(directory / "manifest.parquet")
    faces = manifest.faces[manifest.faces["status"] != "unreadable"]
    sureness = faces[[f"{name}_confidence" for name in manifest.labels.names]].mean(axis=1).to_numpy(float)
    order = np.argsort(-sureness, kind="stable")
    chosen = faces.iloc[order[np.linspace(0, len(faces) - 1, min(NUM_FACES, len(faces))).round().astype(int)]]
    images, captions = [], []
    for face in chosen.to_dict("records"):
        picture = read_picture(str(face["image_path"]))
        images.append(Image.new("RGB", (SIDE, SIDE), "lightgray") if isinstance(picture, str) else picture)
        captions.append(_caption(face, manifest))
    title = f"Drawn faces of the pool as round {round_index} labeled them, the surest first; in brackets: not accepted"
    path = directory / "drawn_faces.png"
    with atomic_path(path) as beside:
        sheet = contact_sheet(images, captions, columns=COLUMNS, title=title, side=SIDE)
        sheet.quantize(256).save(beside, format="PNG")  # a third of the bytes: it is put into a page whole
    return path


def _caption(face: dict[Any, Any], manifest: Manifest) -> str:
    lines = []
    for name in manifest.labels.names:
        told = f"{face[name]} {face[f'{name}_confidence']:.2f}"
        lines.append(told if face[f"{name}_status"] in ("accepted", "known") else f"({told})")
    return "\n".join(lines)
