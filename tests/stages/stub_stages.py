"""Stages whose work is replaced: every output holds a digest of the stage's inputs.

Records, inputs, order and skipping are the library's own, so that a test sees which stages work again, in milliseconds.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline import stages
from ssl_pipeline.config.run import RunConfig
from ssl_pipeline.faces.table import face_columns, write_faces
from ssl_pipeline.labels import LabelSpace
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.runs.files import digest_of, write_json, write_text
from ssl_pipeline.runs.records import StageRecord, run_stage
from ssl_pipeline.stages.cross_fit import train_fold_teachers
from ssl_pipeline.stages.evaluate import evaluate
from ssl_pipeline.stages.gate import gate
from ssl_pipeline.stages.predict import predict
from ssl_pipeline.stages.prepare import prepare
from ssl_pipeline.stages.selection import select
from ssl_pipeline.stages.teachers import train_teacher
from ssl_pipeline.stages.train import train_student

NUM_LABELED, NUM_POOL = 48, 12
LABELS = LabelSpace.of({"gender": ["male", "female"], "age": ["<45", ">=45"]})
"""Of `tests.cycle_config.TINY`."""
_SPLITS = ("train", "train", "validation", "test")


def replace_in_stages(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """Replace a name in every stage that imports it."""
    for info in pkgutil.iter_modules(stages.__path__):
        module = importlib.import_module(f"ssl_pipeline.stages.{info.name}")
        if hasattr(module, name):
            monkeypatch.setattr(module, name, value)


def _no_accuracy(model: str) -> float:
    return 0.5


@dataclass
class StubStages:
    """The stages that were asked for, and what the stubs answer."""

    accuracy: Callable[[str], float] = _no_accuracy
    """Of a model on any split, by its directory relative to the run's."""
    worked: list[str] = field(default_factory=list)
    """Directories of the stages that worked, relative to the run's, in order."""
    skipped: list[str] = field(default_factory=list)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "StubStages":
        """Replace the work of all stages."""
        replace_in_stages(monkeypatch, "run_stage", self.run_stage)
        manifest = SimpleNamespace(selection={"faults": [], "shift": None}, known_or_accepted=np.ones((1, 1), bool))
        monkeypatch.setattr("ssl_pipeline.stages.train.open_manifest", lambda path: manifest)
        monkeypatch.setattr("ssl_pipeline.stages.train.manifest_parts", lambda manifest, _: [manifest])
        monkeypatch.setattr("ssl_pipeline.stages.train.check_belongs", lambda *_, **__: None)
        for name in ("open_manifest", "difference"):
            monkeypatch.setattr(f"ssl_pipeline.stages.student_labels.{name}", lambda *_, **__: {"per_attribute": {}})
        monkeypatch.setattr("ssl_pipeline.stages.finish.plot_class_f1", lambda *_, **__: None)
        monkeypatch.setattr("ssl_pipeline.stages.prepare.fingerprint", lambda *_, **__: "unchanged")
        monkeypatch.setattr("ssl_pipeline.stages.prepare.detector_identity", str)
        return self

    def run_stage(
        self,
        directory: Path,
        *,
        outputs: Sequence[str],
        inputs: Mapping[str, Any],
        work: Callable[[], Mapping[str, Any]],
        **options: Any,
    ) -> StageRecord:
        """Run a stage with the stub's work."""
        del work
        root = next(parent for parent in directory.parents if (parent / "faces").exists() or parent.name == "tiny")
        name = str(directory.relative_to(root))
        record = run_stage(
            directory,
            outputs=outputs,
            inputs=inputs,
            work=lambda: self._work(directory, name, outputs, digest_of(inputs)),
            **options,
        )
        (self.skipped if record.skipped else self.worked).append(name)
        return record

    def _work(self, directory: Path, name: str, outputs: Sequence[str], digest: str) -> dict[str, Any]:
        directory.mkdir(parents=True, exist_ok=True)
        for output in outputs:
            write_text(directory / output, f"{output} of {digest}")
        if "labeled.parquet" in outputs:
            return _prepare(directory)
        if "selection.json" in outputs:
            counts = {"candidates": NUM_POOL, "accepted": NUM_POOL, "rejected": 0, "unreadable": 0}
            selection = {"faults": [], "shift": None}
            summary: dict[str, Any] = {"counts": counts, "precision": None, "digest": digest, "selection": selection}
            write_json(directory / "selection.json", summary)
            return {"counts": counts, "precision": None, "faults": []}
        if "predictions.parquet" in outputs:
            accuracy = self.accuracy(str(Path(name).parent))
            _predictions(accuracy, digest).to_parquet(directory / "predictions.parquet")
            rates = dict.fromkeys(
                ("accuracy", "macro_f1", "expected_calibration_error", "brier_score", "log_loss"), accuracy
            )
            return {**rates, "num_faces": 100, "per_class": {}, "per_attribute": {}, "per_group": {}}
        if name.endswith("/shift"):
            return {
                "auc": int(digest[:4], 16) / 16**5,  # never strong
                "standard_error": 0.1,
                "note": "",
                "num_pool": 1,
                "num_validation": 1,
            }
        if name.endswith("out_of_fold"):
            return {"by_fold": [1], "num_faces": 1, "calibration": None}
        if name.endswith("/cost"):
            return {"num_models": 1, "num_parameters": 1, "num_bytes": 1, "faces_per_second": 1.0, "device": "cpu"}
        if name.endswith("/calibration"):
            return {"calibration": None}
        training = {"kept": "best", "kept_epoch": 0, "num_epochs": 1, "monitor": "macro_f1", "kept_metric": 0.5}
        return {**training, "resumed_from_epoch": 0}


def _prepare(directory: Path) -> dict[str, Any]:
    """Write tiny face tables of the labels in `tests.cycle_config`."""
    labeled, pool = _faces(NUM_LABELED, "home"), _faces(NUM_POOL, "elsewhere")
    labeled["split"] = [_SPLITS[row % len(_SPLITS)] for row in range(NUM_LABELED)]
    write_faces(directory / "labeled.parquet", labeled, LABELS)
    write_faces(directory / "unlabeled.parquet", pool.assign(gender=None, age=None, split="unlabeled"), LABELS)
    pd.DataFrame({"image_id": []}).to_parquet(directory / "unlabeled_truth.parquet")
    counts = {split: int((labeled["split"] == split).sum()) for split in ("train", "validation", "test")}
    empty: dict[str, Any] = {"leakage": {}, "sources": {}, "by_class": {"a class": counts}, "persons_known": True}
    return {"labeled": counts | {"unused": 0}, "unlabeled": NUM_POOL, **empty}


def _faces(number: int, source: str) -> pd.DataFrame:
    rows = np.arange(number)
    ids = [f"{source}:{row}" for row in rows]
    genders, ages = np.where(rows // 4 % 2, "female", "male"), np.where(rows // 8 % 2, ">=45", "<45")
    values = {"gender": genders, "age": ages, "age_years": 40.0, "pixel_row": rows, "source": source}
    table = pd.DataFrame({**dict.fromkeys(["image_id", "image_path", "content_hash", "person_id"], ids), **values})
    return table.assign(picture_id=ids, origin=None, derived=None).reindex(columns=face_columns(LABELS))


def _predictions(accuracy: float, digest: str) -> pd.DataFrame:
    """Predictions of 100 people, of which this share is right."""
    truth = np.arange(100) % 4
    right = np.arange(100) < round(100 * accuracy)
    table = pd.DataFrame(
        {"image_id": [f"f{row}" for row in range(100)], "person_id": [f"p{row}" for row in range(100)]}
    )
    table["gender"], table["age"] = np.where(truth % 2, "female", "male"), np.where(truth // 2, ">=45", "<45")
    predicted = np.where(right, truth, (truth + 1) % 4)
    return table.assign(
        class_id=truth,
        predicted_class_id=predicted,
        confidence=0.9,
        picture_id=[f"{digest[:8]}-{row}" for row in range(100)],
    )


def run_cycle(config: RunConfig, run: RunDir, rounds: int = 1) -> None:
    """Run the stages of a cycle; every student becomes the next teacher."""
    prepare(config, run)
    teacher = train_teacher(config, run).directory
    train_fold_teachers(config, run)
    for round_index in range(1, rounds + 1):
        predict(config, run, round_index, teacher / "best.safetensors")
        select(config, run, round_index)
        train_student(config, run, round_index)
        gate(config, run, round_index, teacher)
        teacher = run.student(round_index)
    for model in (run.teacher, run.student(rounds)):
        evaluate(config, run, model, "test")
