"""The gate: the student must be better, with enough probability, and optionally clearly worse in no group."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline.config.evaluation import GateConfig
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.selection import FixedThreshold
from ssl_pipeline.pseudo_labels.manifest import ManifestIdentity, build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.gate import decide_promotion
from ssl_pipeline.stages.selection import changed_label_share
from tests.conftest import SPACE
from tests.cycle_config import write_tiny_config


def predictions(right: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Predictions for faces of 6 classes, one face per person; `right` marks the correct ones."""
    truth = np.arange(len(right)) % SPACE.num_classes
    wrong = (truth + 1 + np.random.default_rng(seed).integers(0, 5, len(right))) % SPACE.num_classes
    identity = pd.DataFrame(
        {
            "image_id": [f"f{n}" for n in range(len(right))],
            "person_id": range(len(right)),
            "picture_id": range(len(right)),
        }
    )
    known = SPACE.decode(SPACE.class_codes[truth]).astype("string")
    origin = pd.Series(np.where(np.arange(len(right)) // 6 % 5 == 0, "near", "far"), name="origin")
    faces = pd.concat([identity, known, origin], axis=1)
    return faces.assign(class_id=truth, predicted_class_id=np.where(right, truth, wrong), confidence=0.9)


def random_mask(probability: float, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(300) < probability


def test_a_better_student_is_promoted_and_a_worse_one_is_not() -> None:
    teacher, student = predictions(random_mask(0.5, seed=1)), predictions(random_mask(0.8, seed=2))
    decision = decide_promotion(teacher, student, GateConfig(), labels=SPACE)
    assert decision["promoted"]
    assert decision["comparison"]["lower"] > 0
    assert decision["regressions"] == []
    assert decision["verdict"].startswith("the student is promoted: validation macro F1 +")
    back = decide_promotion(student, teacher, GateConfig(), labels=SPACE)
    assert not back["promoted"]
    assert {(group["column"], group["value"]) for group in back["regressions"]} >= {
        ("gender", "male"),
        ("origin", "far"),
    }
    equal = decide_promotion(teacher, teacher, GateConfig(), labels=SPACE)
    assert not equal["promoted"]


def test_a_minimum_probability_may_be_required() -> None:
    right = random_mask(0.6, seed=1)
    slightly = right.copy()
    slightly[np.flatnonzero(~right)[:3]] = True
    slightly[np.flatnonzero(right)[:2]] = False
    teacher, student = predictions(right), predictions(slightly)
    lenient = decide_promotion(teacher, student, GateConfig(metric="accuracy"), labels=SPACE)
    assert lenient["promoted"]
    assert lenient["comparison"]["difference"] == pytest.approx(1 / 300)
    assert 0.5 < lenient["comparison"]["probability"] < 0.9
    strict = decide_promotion(teacher, student, GateConfig(metric="accuracy", min_probability=0.9), labels=SPACE)
    assert not strict["promoted"]
    assert "not promoted" in strict["verdict"]
    assert "required: 0.9" in strict["verdict"]


def test_a_group_with_lower_accuracy_is_named_and_may_prevent_the_promotion() -> None:
    right = random_mask(0.6, seed=1)
    near = (predictions(right)["origin"] == "near").to_numpy()
    student_right = np.where(near, random_mask(0.2, seed=3), random_mask(0.9, seed=4))
    teacher, student = predictions(right), predictions(student_right)
    named = decide_promotion(teacher, student, GateConfig(), labels=SPACE)
    assert named["promoted"]
    groups = [(group["column"], group["value"], group["num_faces"]) for group in named["regressions"]]
    assert groups == [("origin", "near", 60)]
    assert "clearly worse in origin near -" in named["verdict"]
    refused = decide_promotion(teacher, student, GateConfig(refuse_regressions=True), labels=SPACE)
    assert not refused["promoted"]


def test_the_changed_share_counts_new_and_changed_labels_among_the_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_pipeline.stages.selection.check_selected", lambda *_: None)  # tests/stages/test_resume.py

    def manifest_of(run: RunDir, round_index: int, probabilities: list[list[float]]) -> None:
        ids = [f"face-{number}" for number in range(len(probabilities))]
        config = FixedThreshold(type="fixed_threshold", confidence_threshold=0.8)
        known = np.full((len(ids), 2), -1)
        selection = select(np.array(probabilities), known, labels=SPACE, config=config, image_ids=ids)
        pool = pd.DataFrame(
            {"image_id": ids, "image_path": ids, "content_hash": ids, "person_id": ids, "picture_id": ids}
        )
        table = build_manifest(
            pool.assign(source="pool", derived=None),
            selection,
            labels=SPACE,
            unreadable=pd.DataFrame({"source": [], "image_id": [], "image_path": [], "reason": []}),
            identity=ManifestIdentity("news", round_index, "faces", "teacher", "selection"),
            targets="soft",
            settings=config.model_dump(mode="json"),
        )
        write_manifest(run.pseudo_labels(round_index) / "manifest.parquet", table)

    run = RunDir(tmp_path)
    sure = np.full((SPACE.num_classes, SPACE.num_classes), 0.01)
    np.fill_diagonal(sure, 1 - 0.01 * (SPACE.num_classes - 1))
    unsure = np.full(SPACE.num_classes, 1 / SPACE.num_classes)
    for round_index in (1, 2, 3):
        run.pseudo_labels(round_index).mkdir(parents=True)
    last = SPACE.num_classes - 1
    manifest_of(run, 1, [sure[0], sure[0], unsure])
    manifest_of(run, 2, [sure[0], sure[last], sure[0]])  # of six labels two are kept, two changed, two new
    manifest_of(run, 3, [sure[0], sure[last], unsure])  # lost labels do not count
    config = load_config(write_tiny_config(tmp_path))
    changed = changed_label_share(config, run, 2)
    assert (changed.share, changed.should_continue) == (4 / 6, True)
    assert not changed_label_share(config.model_copy(update={"min_changed_labels": 0.7}), run, 2).should_continue
    assert changed_label_share(config, run, 3).share == 0
    assert not changed_label_share(config, run, 3).should_continue
