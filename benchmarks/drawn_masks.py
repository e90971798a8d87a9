"""Mask or no mask, learned from drawn masks alone and tested on photographs of real masks.

python -m benchmarks.drawn_masks --faces UTKFACE --photographs FOLDER --model face_detection_yunet.onnx --out FOLDER

The folder of photographs has with_mask/ and without_mask/. Masks are drawn on aligned bare faces; the network learns from
those and from the bare faces. No photograph takes part in training or in choosing the epoch.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import typer
from PIL import Image, ImageFilter

from ssl_pipeline.config.cropping import FaceSettings
from ssl_pipeline.config.labels import AttributeConfig, LabelsConfig
from ssl_pipeline.config.masking import MaskingConfig
from ssl_pipeline.config.run import PredictionConfig
from ssl_pipeline.config.training import RoleConfig
from ssl_pipeline.faces.cropping import CANONICAL_POINTS, choose_face, crop_face, similarity_transform, warp
from ssl_pipeline.faces.decoding import UnreadableFace, decode_rgb
from ssl_pipeline.faces.detection import FaceDetector
from ssl_pipeline.learning.dataset import LabeledSet, TrainingFaces, TrainingSet
from ssl_pipeline.learning.fit import fit
from ssl_pipeline.learning.predict import CheckpointPredictor
from ssl_pipeline.runs.files import write_json
from ssl_pipeline.synthetic.masks.masked_set import build_masked_faces

VALUES = ("with_mask", "without_mask")
LABELS = LabelsConfig(attributes=(AttributeConfig(name="mask", values=VALUES),))
IMAGE_SIZE = 64
NUM_VIEWS = 2
"""Degraded copies per picture."""
ROLE = RoleConfig.model_validate(
    {
        "model": {"architecture": "wrn16_2"},
        "training": {
            "epochs": 10,
            "batch_size": 64,
            "optimizer": {"type": "adamw", "learning_rate": 3.0e-3, "weight_decay": 0.05},
            "scheduler": {"type": "cosine", "warmup_epochs": 1},
            "loss": {"type": "cross_entropy", "label_smoothing": 0.05},
            "augmentation": "strong",
            "randaugment": {"num_ops": 2, "magnitude": 7, "erasing_probability": 0.2},
            "ema_decay": 0.99,
            "monitor": "log_loss",
        },
    }
)


def main(
    faces: Annotated[Path, typer.Option(help="UTKFace's aligned chips.")],
    photographs: Annotated[Path, typer.Option(help="A folder with with_mask/ and without_mask/.")],
    model: Annotated[Path, typer.Option(help="YuNet's ONNX file.")],
    out: Annotated[Path, typer.Option(help="Folder for masked faces, weights and result.")],
    num_faces: int = 2200,
    seed: int = 0,
) -> None:
    """Draw the masks, train, evaluate."""
    torch.set_num_threads(1)
    drawn = draw_masked_faces(faces, model, out / f"masked-{seed}", num_faces=num_faces, seed=seed)
    checkpoint = train(drawn, out / f"weights-{seed}", seed=seed)
    result = evaluate(checkpoint, photographs, model)
    write_json(out / f"result-{seed}.json", result)
    print(json.dumps({name: value for name, value in result.items() if name != "errors"}, indent=2))


def draw_masked_faces(faces: Path, model: Path, out: Path, *, num_faces: int, seed: int) -> pd.DataFrame:
    """Draw two worn masks per face and keep the bare face; draw a wrongly worn mask on a quarter as many faces."""
    tables = []
    for name, limit, pictures in (
        ("worn", num_faces, {"wear": 2, "incorrect": 0, "normal": 1}),
        ("wrong", num_faces // 4, {"wear": 0, "incorrect": 1, "normal": 0}),
    ):
        config = MaskingConfig.model_validate(
            {
                "root": faces.parent,
                "sources": [{"type": "utkface", "name": name, "path": faces.name, "limit": limit}],
                "out": out / name,
                "seed": seed,
                "landmarks": {"type": "yunet", "model": model},
                "per_face": pictures,
                "wrong_ways": {"nose_out": 0.6, "chin_out": 0.25, "on_chin": 0.15},
                "colors": {"white": 0.3, "black": 0.18, "blue": 0.12, "other": 0.2, "print": 0.2},
                "processes": 1,
            }
        )
        record = build_masked_faces(config)
        print({key: record[key] for key in ("found", "beyond_limit", "rejected", "used", "drawn")}, flush=True)
        table = pd.read_csv(config.folder / "faces.csv", dtype=str, keep_default_na=False)
        tables.append(table.assign(image_path=str(config.folder) + "/" + table["image_path"]))
    return pd.concat(tables, ignore_index=True)


def train(drawn: pd.DataFrame, directory: Path, *, seed: int) -> Path:
    """Train on drawn masks; an eighth of the people is held out to choose the epoch. Returns the checkpoint."""
    rng = np.random.default_rng(seed)
    drawn = pd.concat([drawn] * NUM_VIEWS, ignore_index=True)
    pixels = np.stack([degrade(Image.open(path).convert("RGB"), rng) for path in drawn["image_path"]])
    people = drawn["person_id"].str.split(":").str[1]
    is_held_out = people.isin(rng.permutation(np.array(sorted(set(people))))[: people.nunique() // 8])
    table = pd.DataFrame(
        {
            "image_id": drawn["image_path"],
            "pixel_row": np.arange(len(drawn)),
            "mask": np.where(drawn["mask"] == "normal", VALUES[1], VALUES[0]),
        }
    )
    train_table = table[~is_held_out]
    training_faces = TrainingFaces(
        LABELS.space,
        TrainingSet.from_faces(train_table, pixels, labels=LABELS),
        LabeledSet.from_faces(table[is_held_out], pixels, labels=LABELS, train=train_table),
    )
    result = fit(ROLE, training_faces, directory=directory, seed=seed, device="cpu", name="drawn masks")
    print(f"kept epoch {result.kept_epoch}: {result.kept_metric:.4f} log loss on held-out drawn masks", flush=True)
    return result.checkpoint


def degrade(image: Image.Image, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Make a chip look like a photograph: cut tight, turned, over- or underexposed, small, compressed."""
    width, height = image.size
    margin = rng.uniform(0, 0.2, 4) * (rng.random(4) < 0.5)
    box = (margin[0] * width, margin[1] * height, (1 - margin[2]) * width, (1 - 0.6 * margin[3]) * height)
    left, top, right, bottom = (round(edge) for edge in box)
    crop = image.crop((left, top, right, bottom))
    points = CANONICAL_POINTS * image.size - (left, top)
    angle, scale = np.radians(rng.normal(0, 5)), np.exp(rng.normal(0, 0.07))
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = ((CANONICAL_POINTS - 0.5) @ rotation.T + 0.5 + rng.normal(0, 0.025, 2)) * IMAGE_SIZE
    if rng.random() < 0.6:  # 14 to 140 pixels wide
        shrink = np.exp(rng.uniform(np.log(0.07), np.log(0.7)))
        size = max(10, round(crop.width * shrink)), max(10, round(crop.height * shrink))
        points = points * (np.array(size) / crop.size)
        crop = crop.resize(size, Image.Resampling.BOX)
    if rng.random() < 0.6:
        crop = _compress(crop, rng)
    framed = warp(crop, similarity_transform(points, target), size=IMAGE_SIZE).astype(np.float32) / np.float32(255)
    pixels = _relight(framed.astype(np.float32), rng)
    degraded = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.4:
        degraded = degraded.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    return np.asarray(degraded)


def _compress(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    stream = BytesIO()
    image.save(stream, format="JPEG", quality=int(rng.integers(25, 90)))
    return Image.open(stream).convert("RGB")


def _relight(pixels: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Change exposure, contrast and colors, at times to unnatural ones, so that color cannot identify a mask."""
    pixels = pixels ** np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.12, 3))
    pixels = (pixels - 0.5) * np.exp(rng.normal(0, 0.15)) + 0.5
    if rng.random() < 0.12:
        pixels = pixels[..., rng.permutation(3)]
    gray = pixels.mean(axis=2, keepdims=True)
    return np.asarray(gray + (pixels - gray) * (0 if rng.random() < 0.12 else np.exp(rng.normal(0, 0.35))))


def evaluate(checkpoint: Path, photographs: Path, model: Path) -> dict[str, Any]:
    """Return balanced accuracy and recall over the detected faces, the detected share per class, and the errors."""
    detector, settings = FaceDetector(model), FaceSettings(min_score=0.5)
    predictor = CheckpointPredictor.load(checkpoint, PredictionConfig(), device="cpu")
    num_faces, recalls, errors = {}, {}, {}
    for class_id, name in enumerate(VALUES):
        crops, names, num_pictures = [], [], 0
        for path in sorted((photographs / name).iterdir()):
            if path.name.startswith("."):
                continue
            num_pictures += 1
            try:
                image = decode_rgb(path.read_bytes())
                faces = detector.detect(np.asarray(image))
                face = choose_face(faces, width=image.width, height=image.height, settings=settings)
            except UnreadableFace:
                continue
            crops.append(crop_face(image, face.points, size=IMAGE_SIZE))
            names.append(path.name)
        probabilities = predictor.predict(np.stack(crops), np.arange(len(crops)))
        wrong = probabilities.argmax(axis=1) != class_id
        share = round(len(crops) / num_pictures, 4)
        num_faces[name] = {"pictures": num_pictures, "found": len(crops), "share": share}
        recalls[name] = round(float(1 - wrong.mean()), 4)
        errors[name] = {names[row]: round(float(probabilities[row, class_id]), 3) for row in np.flatnonzero(wrong)}
    return {
        "balanced_accuracy": round(float(np.mean(list(recalls.values()))), 4),
        "recall": recalls,
        "faces": num_faces,
        "errors": errors,
    }


if __name__ == "__main__":
    typer.run(main)
