"""A full cycle in seconds: a few hundred drawn faces at 24 pixels, tiny models, two classes of gender and age each."""

from pathlib import Path
from typing import Any

import yaml

from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.draw import draw
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import PreparedFaces, prepare
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher

TINY: dict[str, Any] = {
    "run_name": "tiny",
    "seed": 0,
    "labels": {
        "attributes": [
            {"name": "gender", "values": ["male", "female"]},
            {"name": "age", "values": ["<45", ">=45"], "from_column": "age_years", "bin_edges": [45]},
        ]
    },
    "faces": {
        "image_size": 24,
        "labeled": {
            "sources": [{"type": "drawn", "name": "home", "path": "home", "num_people": 120, "size_pixels": 32}],
            "test_fraction": 0.25,
            "validation_fraction": 0.25,
        },
        "unlabeled": {
            "hide_labels": True,
            "sources": [
                {
                    "type": "drawn",
                    "name": "elsewhere",
                    "path": "elsewhere",
                    "population": "elsewhere",
                    "num_people": 100,
                    "drawing_seed": 5,
                    "size_pixels": 32,
                }
            ],
        },
    },
    "teacher": {
        "model": {"architecture": "wrn10_1"},
        "training": {"epochs": 3, "batch_size": 16, "optimizer": {"type": "adamw", "learning_rate": 0.003}},
    },
    "student": {
        "model": {"architecture": "wrn10_1", "dropout": 0.1, "stochastic_depth": 0.1},
        "training": {
            "epochs": 4,
            "batch_size": 16,
            "optimizer": {"type": "sgd", "learning_rate": 0.05},
            "augmentation": "strong",
            "labeled_fraction": 0.4,
            "ema_decay": 0.9,
        },
    },
    "prediction": {"shard_size": 40},
    "selection": {"type": "fixed_threshold", "confidence_threshold": 0.55},
    "control": False,
}


def write_tiny_config(directory: Path, *, root: Path | None = None, **sections: Any) -> Path:
    """Write the config into `directory`, its runs there too; `root` shares drawn faces between tests."""
    content = TINY | {"runs_root": str(directory / "runs")} | sections
    content["faces"] = {"root": str(root or directory / "raw"), **content["faces"]}
    path = directory / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def draw_and_prepare(config: RunConfig, run: RunDir) -> PreparedFaces:
    """The stages before any training."""
    draw(config)
    return prepare(config, run)


def label_the_pool(config: RunConfig, run: RunDir) -> None:
    """The stages before the first student."""
    draw_and_prepare(config, run)
    train_teacher(config, run)
    predict(config, run, 1, run.teacher / "best.safetensors")
    select(config, run, 1)
