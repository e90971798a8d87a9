"""The gate: the student must be better, with enough probability, and worse in no group of independent units."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl_pipeline.config.evaluation import GateConfig
from ssl_pipeline.config.loading import load_config
from ssl_pipeline.config.selection import FixedThreshold
from ssl_pipeline.evaluation.model_comparison import ModelComparison
from ssl_pipeline.pseudo_labels.manifest_file import ManifestIdentity
from ssl_pipeline.pseudo_labels.manifest_writing import build_manifest, write_manifest
from ssl_pipeline.pseudo_labels.selection import select
from ssl_pipeline.runs.directory import RunDir
from ssl_pipeline.stages.gate import compare_predictions, gate_reason, is_promoted
from ssl_pipeline.stages.selection import changed_label_share
from tests.conftest import SPACE
from tests.cycle_config import write_tiny_config


def predictions(right: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Predictions for faces of 6 classes, one face per person; `right` marks the correct ones."""
    truth = np.arange(len(right)) % SPACE.num_classes
    wrong = (truth + 1 + np.random.default_rng(seed).integers(0, 5, len(right))) % SPACE.num_classes
    identity = pd.DataFrame({"image_id": [f"f{n}" for n in range(len(right))]})
    identity["person_id"] = [f"p{number}" for number in range(len(right))]
    identity["picture_id"] = identity["image_id"]
    known = SPACE.decode(SPACE.class_codes[truth]).astype("string")
    origin = pd.Series(np.where(np.arange(len(right)) // 6 % 5 == 0, "near", "far"), name="origin")
    faces = pd.concat([identity, known, origin], axis=1)
    return faces.assign(class_id=truth, predicted_class_id=np.where(right, truth, wrong), confidence=0.9)


def random_mask(probability: float, *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(300) < probability


def compare(teacher: pd.DataFrame, student: pd.DataFrame, **config: Any) -> tuple[ModelComparison, bool]:
    gate = GateConfig(**config)
    comparison = compare_predictions(teacher, student, gate, labels=SPACE)
    return comparison, is_promoted(comparison, gate)


def test_a_better_student_is_promoted_and_a_worse_one_is_not() -> None:
    teacher, student = predictions(random_mask(0.5, seed=1)), predictions(random_mask(0.8, seed=2))
    comparison, promoted = compare(teacher, student)
    assert promoted
    assert comparison.overall.lower > 0
    assert comparison.group_words == ""
    assert comparison.overall_words.startswith("macro F1 +")
    back, promoted_back = compare(student, teacher)
    assert not promoted_back
    assert {(group.column, group.value) for group in back.regressions} >= {("gender", "male"), ("origin", "far")}
    assert not compare(teacher, teacher)[1]


def test_a_student_that_is_better_as_often_as_not_is_refused_by_default() -> None:
    right = random_mask(0.6, seed=1)
    slightly = right.copy()
    slightly[np.flatnonzero(~right)[:3]] = True
    slightly[np.flatnonzero(right)[:2]] = False
    teacher, student = predictions(right), predictions(slightly)
    comparison, promoted = compare(teacher, student, metric="accuracy")
    assert not promoted
    assert comparison.overall.difference == pytest.approx(1 / 300)
    assert 0.5 < comparison.overall.probability < 0.8
    assert compare(teacher, student, metric="accuracy", min_probability=0.5)[1]
    reason = gate_reason(comparison, GateConfig())
    share = int(100 * comparison.overall.probability)
    assert f"; it is better in {share}" in reason
    assert reason.endswith(" % of the bootstrap samples, and the gate requires 80 %")


def test_a_group_in_which_the_student_is_worse_is_named_and_refused_unless_the_config_allows_it() -> None:
    right = random_mask(0.6, seed=1)
    near = (predictions(right)["origin"] == "near").to_numpy()
    student_right = np.where(near, random_mask(0.2, seed=3), random_mask(0.9, seed=4))
    comparison, promoted = compare(predictions(right), predictions(student_right))
    assert not promoted
    (group,) = comparison.regressions
    num_better, num_worse = (int((near & (a & ~b)).sum()) for a, b in ((student_right, right), (right, student_right)))
    assert (group.column, group.value, group.num_faces) == ("origin", "near", 60)
    assert (group.test.num_better, group.test.num_worse) == (num_better, num_worse)
    assert f"worse in origin near (fewer faces right of {num_worse} persons, more of {num_better}; accuracy -" in (
        comparison.group_words
    )
    assert compare(predictions(right), predictions(student_right), refuse_regressions=False)[1]


def test_one_face_alone_in_its_group_refuses_nothing_and_is_named_as_untested() -> None:
    teacher, student = predictions(random_mask(0.5, seed=1)), predictions(random_mask(0.8, seed=2))
    worse = np.flatnonzero(
        (teacher["predicted_class_id"] == teacher["class_id"]) & (student["predicted_class_id"] != student["class_id"])
    )[0]
    for frame in (teacher, student):
        frame.loc[worse, "origin"] = "rare"
    comparison, promoted = compare(teacher, student)
    assert promoted
    assert comparison.regressions == []
    assert comparison.group_words == "too few persons to test origin rare"


def test_copies_of_a_person_or_of_a_picture_are_one_unit() -> None:
    """Sixty worse faces are a regression, sixty faces of six people or of six pictures are not."""
    right = np.ones(300, dtype=bool)
    student_right = right.copy()
    student_right[:60] = False
    for column in ("person_id", "picture_id"):
        teacher, student = predictions(right), predictions(student_right)
        assert compare(teacher, student)[0].regressions
        for frame in (teacher, student):
            frame[column] = [f"{column}-{number % 6 if number < 60 else number}" for number in range(300)]
        comparison, _ = compare(teacher, student)
        assert comparison.regressions == []
        assert comparison.overall.num_units == 246


def test_with_too_few_units_nothing_is_more_probable_than_its_opposite() -> None:
    teacher, student = predictions(np.zeros(300, dtype=bool)), predictions(np.ones(300, dtype=bool))
    for frame in (teacher, student):
        frame["person_id"] = "one person"
    comparison, promoted = compare(teacher, student)
    assert not promoted
    assert "too few to say how sure that is" in gate_reason(comparison, GateConfig())
    assert compare(teacher, student, min_probability=0.5)[1]  # the better point estimate
    assert comparison.overall_words == "macro F1 +100.0 points on 1 persons, too few for an interval"
    assert not compare(teacher, student, min_probability=0.6)[1]


def test_the_verdict_speaks_of_faces_if_no_person_is_known() -> None:
    teacher, student = predictions(random_mask(0.5, seed=1)), predictions(random_mask(0.8, seed=2))
    assert compare(teacher, student)[0].unit == "persons"
    for frame in (teacher, student):
        frame["person_id"] = frame["image_id"]
    assert "resampling 300 faces" in compare(teacher, student)[0].overall_words


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
        tables = build_manifest(
            pool.assign(source="pool", derived=None),
            selection,
            labels=SPACE,
            unreadable=pd.DataFrame({"source": [], "image_id": [], "image_path": [], "reason": []}),
            identity=ManifestIdentity("news", round_index, "faces", "teacher", "selection"),
            targets="soft",
            settings=config.model_dump(mode="json"),
        )
        write_manifest(run.pseudo_labels(round_index) / "manifest.parquet", tables)

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
