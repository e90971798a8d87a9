"""A folder that a model hub takes as it is: weights, their description, and the cards of the run that made them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.errors import CheckpointError
from ssl_pipeline.learning.checkpoint import Checkpoint, load_checkpoint
from ssl_pipeline.reports.cards import data_card, model_card
from ssl_pipeline.runs.directory import RunDir, model_of
from ssl_pipeline.runs.files import atomic_path, read_json, write_json, write_text
from ssl_pipeline.runs.records import StageRecord

WEIGHTS = "model.safetensors"


def write_hub_folder(run: RunDir, out: Path) -> None:
    """Write the promoted model of a finished run; `ssl_pipeline.Predictor` takes the folder like a run.

    The folder holds ``model.safetensors``, ``config.json``, ``README.md`` (the model card) and ``data_card.md``, and no
    path of this machine.

    Raises:
        CheckpointError: if the run has not finished, or the folder holds something already.
    """
    if not run.summary.is_file():
        raise CheckpointError(
            f"{run.root}: not a finished run; its cards belong to the folder, so finish it: {run.command}"
        )
    if out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out}: not empty; name another folder with --out")
    summary, config = read_json(run.summary), load_config(run.root / "config.yaml")
    checkpoint = load_checkpoint(model_of(run.root))
    faces = StageRecord.read(run.faces).result
    out.mkdir(parents=True, exist_ok=True)
    write_text(
        out / "README.md", _front_matter(summary) + model_card({**summary, "promoted_checkpoint": WEIGHTS}, config)
    )
    write_text(out / "data_card.md", data_card(faces, config))
    write_json(out / "config.json", _describe(checkpoint))
    with atomic_path(out / WEIGHTS) as temporary:
        temporary.write_bytes(checkpoint.path.read_bytes())


def _front_matter(summary: Mapping[str, Any]) -> str:
    """Return the card's metadata. The license is the user's decision, so it is left out."""
    scores = summary[summary["promoted"]]
    split = "test" if "test" in scores else "validation"
    lines = [
        "---",
        "library_name: ssl-pipeline",
        "pipeline_tag: image-classification",
        "tags: [face-attributes, pseudo-labeling]",
        "# license: yours to choose; the terms of the face sets and of pretrained weights bind it",
        "model-index:",
        f"  - name: {json.dumps(summary['run_name'])}",
        "    results:",
        "      - task: {type: image-classification}",
        f"        dataset: {{name: labeled faces of the run, type: private, split: {split}}}",
        "        metrics:",
        f"          - {{type: accuracy, value: {scores[split]['accuracy']:.4f}}}",
        f"          - {{type: f1, name: macro F1, value: {scores[split]['macro_f1']:.4f}}}",
        "---",
    ]
    return "\n".join(lines) + "\n\n"


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    labels, rules = checkpoint.labels, checkpoint.cropping
    config = checkpoint.model_config
    return {
        "library_name": "ssl-pipeline",
        "architecture": "several networks that vote" if config is None else config.architecture,
        "labels": labels.to_dict(),
        "id2label": dict(enumerate(labels.class_names)),
        "image_size": checkpoint.image_size,
        "cropping": rules if rules is None or isinstance(rules, str) else rules.model_dump(mode="json"),
        "weights_sha256": checkpoint.digest,
    }
