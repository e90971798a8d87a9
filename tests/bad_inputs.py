"""Table of user mistakes and their exact messages. The tests run it; docs/bad-inputs.md shows it.

python -m tests.bad_inputs        writes docs/bad-inputs.md
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.training import ModelConfig
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.learning.checkpoint import save_checkpoint
from ssl_pipeline.learning.model import build_model
from ssl_pipeline.stages.open import open_run
from tests.cycle_config import TINY, draw_and_prepare

GENDER = {"name": "gender", "values": ["male", "female"]}
AGE = {"name": "age", "values": ["<45", ">=45"]}


@dataclass(frozen=True)
class BadInput:
    """One mistake; `{dir}` in its texts is its folder, with config.yaml and raw/."""

    mistake: str
    message: str
    spoil: Callable[[Path], None] | None = None
    overrides: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """Arguments of `ssl-pipeline`; if empty, the faces are prepared as in the first step of every flow."""


def write_folders(directory: Path) -> None:
    """Write raw/labeled/<gender>/<age>/ with six faces per class, raw/pool/ with four, and a config."""
    for number, (gender, age) in enumerate([(g, a) for g in GENDER["values"] for a in AGE["values"]]):
        for face in range(6):
            picture(directory / "raw/labeled" / gender / age / f"{face}.png", seed=10 * number + face)
    for face in range(4):
        picture(directory / "raw/pool" / f"{face}.png", seed=100 + face)
    labeled = {"type": "folder", "name": "labeled", "path": "labeled", "levels": ["gender", "age"]}
    content = TINY | {
        "runs_root": str(directory / "runs"),
        "labels": {"attributes": [GENDER, AGE]},
        "faces": {
            "root": str(directory / "raw"),
            "image_size": 24,
            "labeled": {"sources": [labeled], "test_fraction": 0.2, "validation_fraction": 0.3},
            "unlabeled": {"sources": [{"type": "folder", "name": "pool", "path": "pool"}]},
        },
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(content))


def picture(path: Path, *, seed: int) -> None:
    """Write noise as an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, size=(24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def remove_the_labeled_folder(directory: Path) -> None:
    (directory / "raw/labeled").rename(directory / "raw/elsewhere")


def empty_the_pool(directory: Path) -> None:
    for path in (directory / "raw/pool").iterdir():
        path.unlink()


def break_every_picture_of_the_pool(directory: Path) -> None:
    for path in (directory / "raw/pool").iterdir():
        path.write_text("no picture")


def leave_one_face_of_a_class(directory: Path) -> None:
    for path in sorted((directory / "raw/labeled/female/>=45").iterdir())[1:]:
        path.unlink()


def write_text_file(directory: Path) -> None:
    (directory / "text").write_text("neither a table nor weights")


def save_checkpoint_of_other_labels(directory: Path) -> None:
    labels = LabelSpace.of({"gender": ["man", "woman"]})
    config = ModelConfig(architecture="wrn10_1")
    torch.manual_seed(0)
    model = build_model(config, labels=labels, image_size=24)
    save_checkpoint(directory / "other.safetensors", model, model_config=config, image_size=24, cropping=None)


def prepare_faces(directory: Path, overrides: tuple[str, ...]) -> None:
    """Prepare the faces, as the first step of every flow."""
    config = load_config(directory / "config.yaml", overrides=overrides)
    with open_run(config) as run:
        draw_and_prepare(config, run)


_NO_MANIFEST = "give a manifest.parquet that `ssl-pipeline run` wrote"
_NO_CHECKPOINT = "not a checkpoint of ssl-pipeline; expected the best.safetensors of a teacher or student"
_EVALUATE = ("evaluate", "--config", "{dir}/config.yaml", "--checkpoint")

BAD_INPUTS = (
    BadInput(
        "a missing config",
        "ConfigError: {dir}/absent.yaml: no such config file; files there: {dir}/config.yaml; shipped: demo, maskbase, "
        "masked-utkface, presets/fresh, presets/large, presets/small, recipes/efficientnet_b4, recipes/resnext50_f1_focal, recipes/seresnext50, "
        "recipes/vit_base, recipes/wide_resnet101_2, utkface, utkface-large, utkface-out-of-fold",
        command=("evaluate", "--config", "{dir}/absent.yaml", "--checkpoint", "x"),
    ),
    BadInput(
        "an unknown key",
        "ConfigError: {dir}/config.yaml: 1 fault\n  unknown key 'teacher.training.epoch'; did you mean 'epochs'?",
        overrides=("teacher.training.epoch=3",),
    ),
    BadInput(
        "a wrong type and a missing value: all faults at once",
        "ConfigError: {dir}/config.yaml: 2 faults\n"
        "  'seed': expected a whole number, got 'x'\n"
        "  'teacher.model.architecture': missing; it has no default",
        overrides=("seed=x", "teacher.model={head: joint}"),
    ),
    BadInput(
        "a contradiction",
        "ConfigError: {dir}/config.yaml: 1 fault\n"
        "  'faces.labeled': the test split comes from test_fraction or from test_sources: give exactly one of them, "
        "e.g. --set faces.labeled.test_fraction=null",
        overrides=("faces.labeled.test_sources=[{type: folder, path: x}]",),
    ),
    BadInput(
        "another contradiction",
        "ConfigError: {dir}/config.yaml: 1 fault\n"
        "  'teacher.training': batch_size 16 must be a multiple of accumulation_steps 3: a batch is split into that "
        "many equal parts; --set teacher.training.batch_size=18",
        overrides=("teacher.training.accumulation_steps=3",),
    ),
    BadInput(
        "an unknown tracker",
        "ConfigError: {dir}/config.yaml: 1 fault\n"
        "  'track.0': expected 'tensorboard', 'mlflow' or 'wandb', got 'tensorbord'",
        overrides=("track=tensorbord",),
    ),
    BadInput(
        "an unknown network",
        "ConfigError: the config needs what is not available here\n"
        "  'teacher.model': architecture 'resnt18': expected a timm model name or wrn<depth>_<width>, e.g. wrn16_2; "
        "did you mean 'resnet18' or 'resnet18d' or 'skresnet18'?",
        overrides=("teacher.model.architecture=resnt18",),
    ),
    BadInput(
        "a missing folder",
        "FaceTableError: {dir}/raw/labeled: no such folder; source 'labeled' reads its faces there (paths are "
        "relative to faces.root, {dir}/raw); put the faces there, or correct the source's path or faces.root",
        spoil=remove_the_labeled_folder,
    ),
    BadInput(
        "an empty folder",
        "FaceTableError: {dir}/raw/pool: no image found for source 'pool', expected image files (paths are relative to "
        "faces.root, {dir}/raw); put the faces there, or correct the source's path or "
        "faces.root",
        spoil=empty_the_pool,
    ),
    BadInput(
        "only unreadable images",
        "FaceTableError: none of the 4 faces in 'pool' can be read: 4 × not an image (JPEG, PNG, WebP, AVIF, HEIC, GIF, TIFF, BMP, JPEG 2000 or PPM); "
        "the first is {dir}/raw/pool/0.png; put readable images there, or correct the source's path",
        spoil=break_every_picture_of_the_pool,
    ),
    BadInput(
        "a class without a validation face",
        "FaceTableError: 1 of 4 classes have no validation face; add labeled faces, raise "
        "faces.labeled.validation_fraction (or limit), or define fewer classes\n"
        "  female/>=45: 1 labeled, 1 train, 0 validation",
        spoil=leave_one_face_of_a_class,
    ),
    BadInput(
        "a filter on a column that the source does not have",
        "FaceTableError: source 'pool' has no known 'origin', so filter.origin would exclude every face; remove "
        "filter.origin, or name the source's column in columns.origin",
        overrides=("faces.unlabeled.sources.0.filter={origin: [asian]}",),
    ),
    BadInput(
        "a missing checkpoint",
        "CheckpointError: {dir}/absent.safetensors: no such checkpoint; a trained model is best.safetensors in its "
        "run's directory",
        command=(*_EVALUATE, "{dir}/absent.safetensors"),
    ),
    BadInput(
        "a file that is not a checkpoint",
        "CheckpointError: {dir}/text: " + _NO_CHECKPOINT,
        spoil=write_text_file,
        command=(*_EVALUATE, "{dir}/text"),
    ),
    BadInput(
        "a checkpoint with other labels",
        "CheckpointError: {dir}/other.safetensors: the checkpoint has other labels than the config\n"
        "  checkpoint: gender {man, woman}\n"
        "  config:     gender {male, female} × age {<45, >=45}\n"
        "  use the config that it was trained with, or train again",
        spoil=save_checkpoint_of_other_labels,
        command=(*_EVALUATE, "{dir}/other.safetensors"),
    ),
    BadInput(
        "a missing manifest",
        "ManifestError: {dir}/absent.parquet: no such file; `ssl-pipeline run` writes a run's manifest.parquet",
        command=("manifest", "summary", "{dir}/absent.parquet"),
    ),
    BadInput(
        "a file that is not a manifest",
        "ManifestError: {dir}/text: not a readable Parquet file (Parquet magic bytes not found in footer. Either the file "
        "is corrupted or this is not a parquet file); " + _NO_MANIFEST,
        spoil=write_text_file,
        command=("manifest", "summary", "{dir}/text"),
    ),
    BadInput(
        "an unknown review mode",
        "ConfigError: {dir}/config.yaml: 1 fault\n  'review': expected 'none' or 'wait', got 'ask'",
        overrides=("review=ask",),
    ),
    BadInput(
        "two decisions at once",
        "ReviewError: give exactly one of --accept, --threshold and --reject; got --threshold, --reject",
        command=("cycle", "resume", "{dir}", "--threshold", "0.9", "--reject"),
    ),
    BadInput(
        "predictions into an unknown format",
        "ConfigError: --out out.xlsx: expected a name that ends with .csv, .json or .parquet, or --format",
        command=("predict", "x", ".", "--out", "out.xlsx"),
    ),
    BadInput(
        "the options of an earlier release",
        "ConfigError: --checkpoint and --images are arguments now, and all probabilities are written: ssl-pipeline predict "
        "a.safetensors faces --vote-with=b.safetensors --out out.csv",
        command=(
            *("predict", "--checkpoint", "a.safetensors", "--checkpoint", "b.safetensors"),
            *("--images", "faces", "--out", "out.csv"),
        ),
    ),
)

# These need whole runs and are tested in tests/stages/test_stages.py.
OF_RUNS = {
    "a manifest of another run": "ManifestError: a manifest of another run: {manifest} was made in run 'tiny' from "
    "other faces; run `ssl-pipeline run` for run 'other' first",
    "a student of a selection that keeps too little": "SelectionError: accepted 0 of 100 candidates (0 %), outside "
    "selection.guards.min_acceptance_rate … max_acceptance_rate (1 % … 100 %); lower "
    "selection.confidence_threshold (now 1.0) or --set selection.guards.min_acceptance_rate=0",
}


def page() -> str:
    """The table as Markdown."""
    lines = [
        "# Error messages for common mistakes",
        "",
        "Generated by `python -m tests.bad_inputs` from the table that the tests run. Every mistake ends with one message "
        "on standard error, exit code 1 and no traceback, before the work that depends on it. `{dir}` is the folder of "
        "the config.",
        "",
    ]
    for mistake, message in [*((bad.mistake, bad.message) for bad in BAD_INPUTS), *OF_RUNS.items()]:
        lines += [f"**{mistake[0].upper()}{mistake[1:]}**", "", "```", message, "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    Path("docs/bad-inputs.md").write_text(page(), encoding="utf-8")
