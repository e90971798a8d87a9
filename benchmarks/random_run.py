"""A run with prepared faces and a manifest of random predictions, written in seconds: for tests and measurements of pages."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ssl_pipeline.config.selection import FixedThreshold
from ssl_pipeline.faces.table import write_faces
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.pseudo_labels.manifest_file import ManifestIdentity
from ssl_pipeline.pseudo_labels.manifest_writing import build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of, write_json
from ssl_pipeline.runs.records import run_stage

LABELS = LabelSpace.of({"mask": ["wear", "incorrect", "normal"], "gender": ["m", "f"]})


def write_random_run(
    root: Path,
    *,
    num_pool: int,
    num_labeled: int = 60,
    labels: LabelSpace = LABELS,
    ids: Sequence[str] = (),
    side: int = 16,
    seed: int = 0,
) -> RunDir:
    """Write a run: random faces, the first half of the pool's with a known last attribute, and round 1's manifest.

    Args:
        root: the run's folder.
        num_pool: faces of the pool.
        num_labeled: labeled faces; a third each for training, validation and test.
        labels: the label space, two or more attributes.
        ids: image ids of the pool; names by number without them.
        side: pixels.
        seed: of all that is random.
    """
    run, rng = RunDir(root), np.random.default_rng(seed)
    ids = sorted(ids or [f"pool:folder/picture-{number:09d}.jpg" for number in range(num_pool)])
    codes = labels.class_codes[rng.integers(labels.num_classes, size=num_pool)]
    known = np.full_like(codes, -1)
    known[: num_pool // 2, -1] = codes[: num_pool // 2, -1]
    pool = _faces(ids, "pool", known, labels, first_row=num_labeled).assign(split="unlabeled")
    labeled_ids = [f"mine:{number:06d}.png" for number in range(num_labeled)]
    labeled_codes = labels.class_codes[np.arange(num_labeled) % labels.num_classes]
    labeled = _faces(labeled_ids, "mine", labeled_codes, labels, first_row=0)
    labeled["split"] = np.array(["train", "validation", "test"])[np.arange(num_labeled) % 3]

    def prepare() -> Mapping[str, int]:
        run.faces.mkdir(parents=True)
        write_faces(run.faces / "labeled.parquet", labeled, labels)
        write_faces(run.faces / "unlabeled.parquet", pool, labels)
        pixels = np.lib.format.open_memmap(
            run.faces / "pixels.npy", "w+", np.uint8, (num_labeled + num_pool, side, side, 3)
        )
        for start in range(0, len(pixels), 100_000):
            pixels[start : start + 100_000] = rng.integers(
                256, size=pixels[start : start + 100_000].shape, dtype=np.uint8
            )
        return {"num_faces": len(pixels)}

    outputs = ["labeled.parquet", "unlabeled.parquet", "pixels.npy"]
    record = run_stage(run.faces, version=1, inputs={}, outputs=outputs, work=prepare)
    logits = 3 * rng.standard_normal((num_pool, labels.num_classes), dtype=np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    config = FixedThreshold(type="fixed_threshold", confidence_threshold=0.7)
    selection = select(probabilities, known, labels=labels, config=config, image_ids=pool["image_id"])
    tables = build_manifest(
        pool,
        selection,
        labels=labels,
        unreadable=pd.DataFrame(
            {"source": ["pool"], "image_id": ["pool:torn.jpg"], "image_path": ["torn.jpg"], "reason": ["cut off"]}
        ),
        identity=ManifestIdentity(root.name, 1, digest_of(record.outputs), "teacher", "selection"),
        targets="hard",
        settings=config.model_dump(mode="json"),
    )
    run.pseudo_labels(1).mkdir(parents=True)
    write_manifest(run.pseudo_labels(1) / "manifest.parquet", tables)
    write_json(root / "run.json", {"status": "finished"})
    return run


def _faces(
    ids: Sequence[str],
    source: str,
    codes: "np.ndarray[tuple[int, int], np.dtype[np.int64]]",
    labels: LabelSpace,
    *,
    first_row: int,
) -> pd.DataFrame:
    hashes = [f"{number:064x}" for number in range(first_row, first_row + len(ids))]
    faces = pd.DataFrame(
        {"image_id": ids, "image_path": ids, "content_hash": hashes, "person_id": ids, "picture_id": ids}
    )
    faces = faces.assign(source=source, origin=np.array(["north", "south"])[np.arange(len(ids)) % 2], derived=None)
    decoded = labels.decode(codes)
    decoded.index = faces.index
    faces[labels.names] = decoded
    return faces.assign(age_years=None, pixel_row=np.arange(first_row, first_row + len(ids)))
