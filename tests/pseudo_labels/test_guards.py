"""Guards report unusable selections with counts and cures."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ssl_pipeline.config.yaml_text import read_yaml
from ssl_pipeline.errors import SelectionError
from ssl_pipeline.labels import UNKNOWN
from ssl_pipeline.pseudo_labels.guards import selection_faults, stop_on
from ssl_pipeline.pseudo_labels.predictions import HeldOutFaces
from ssl_pipeline.pseudo_labels.selection import Selection
from tests.config.test_cures import cures
from tests.pseudo_labels.test_manifest import SPACE
from tests.pseudo_labels.test_strategies import ALL, Case, config_of

QUIET = {"min_acceptance_rate": 0.0, "one_class": False, "worse_than_chance": False}


def faults_of(
    selection: Selection, settings: dict[str, Any] | None = None, held_out: Any = None, **guards: Any
) -> list[str]:
    config = config_of(settings or {"type": "fixed_threshold"}, guards={**QUIET, **guards})
    return selection_faults(selection, labels=SPACE, config=config, held_out=held_out)


@pytest.fixture
def selection() -> Selection:
    """100 faces of the six classes in turn, of which the first 12 are accepted, gender and age."""
    found = Case(0, num_faces=100, partly_known=False).select(config_of({"type": "fixed_threshold"}))
    accepted = np.zeros((100, 2), dtype=bool)
    accepted[:12] = True
    ids = np.arange(100) % 6
    return replace(found, accepted=accepted, class_ids=ids, attribute_codes=SPACE.class_codes[ids])


def test_the_acceptance_rate_comes_with_counts_bounds_and_cures(selection: Selection) -> None:
    assert faults_of(selection, min_acceptance_rate=0.2) == [
        "accepted 12 of 100 candidates (12 %), outside selection.guards.min_acceptance_rate … max_acceptance_rate "
        "(20 % … 100 %); lower selection.confidence_threshold (now 0.95) or --set selection.guards.min_acceptance_rate=0"
    ]
    assert faults_of(selection, max_acceptance_rate=0.1)[0].endswith(
        "raise selection.confidence_threshold (now 0.95) or --set selection.guards.max_acceptance_rate=1"
    )
    assert faults_of(selection, min_acceptance_rate=0.12, max_acceptance_rate=0.12) == []  # both bounds are allowed
    nothing = replace(selection, accepted=np.zeros((100, 2), dtype=bool))
    assert faults_of(nothing) == []
    assert faults_of(nothing, min_acceptance_rate=0.01)[0].startswith("accepted 0 of 100 candidates (0 %)")


def with_known(selection: Selection, codes: np.ndarray) -> Selection:
    return replace(selection, posteriors=replace(selection.posteriors, known_codes=codes))


def test_known_faces_are_not_counted_as_accepted_guesses(selection: Selection) -> None:
    half = np.where(np.arange(100)[:, None] < 50, -1, [0, 0])
    nothing = replace(with_known(selection, half), accepted=np.zeros((100, 2), dtype=bool))
    assert faults_of(nothing, min_acceptance_rate=0.01)[0].startswith("accepted 0 of 50 candidates (0 %)")
    assert faults_of(replace(nothing, class_ids=np.zeros(100, np.int64)), one_class=True) == []
    assert faults_of(with_known(nothing, np.zeros((100, 2), int)), min_acceptance_rate=0.01) == []


CURES = {
    "fixed_threshold": (
        "lower selection.confidence_threshold (now 0.6)",
        "raise selection.confidence_threshold (now 0.6)",
    ),
    "balanced_top_k": (
        "raise selection.k (now 4), lower selection.min_confidence (now 0.0)",
        "lower selection.k (now 4)",
    ),
    "percentile_curriculum": (
        "raise selection.step_percent (now 30.0)",
        "lower selection.step_percent (now 30.0)",
    ),
    "self_adaptive": ("--set selection.type=fixed_threshold (self_adaptive has no settings)",) * 2,
    "gaussian_weights": ("lower selection.min_weight (now 0.3)", "raise selection.min_weight (now 0.3)"),
    "ensemble_agreement": (
        "lower selection.confidence_threshold (now 0.5), raise selection.max_deviation (now 0.08)",
        "raise selection.confidence_threshold (now 0.5), lower selection.max_deviation (now 0.08)",
    ),
    "precision_guarantee": (
        "lower selection.target (now 0.6), raise selection.delta (now 0.2), label more faces",
        "raise selection.target (now 0.6)",
    ),
}
"""By strategy: how more, and how fewer, labels are accepted."""


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: settings["type"])
def test_every_strategy_names_its_own_cure(selection: Selection, settings: dict[str, Any]) -> None:
    more, fewer = CURES[settings["type"]]
    (low,) = faults_of(selection, settings, min_acceptance_rate=0.5)
    (high,) = faults_of(selection, settings, max_acceptance_rate=0.01)
    assert low.partition("; ")[2] == f"{more} or --set selection.guards.min_acceptance_rate=0"
    assert high.partition("; ")[2] == f"{fewer} or --set selection.guards.max_acceptance_rate=1"


@pytest.mark.parametrize(
    "guards",
    [{"min_acceptance_rate": 0.2}, {"max_acceptance_rate": 0.1}, {"one_class": True}, {"worse_than_chance": True}],
    ids=str,
)
def test_a_pasted_cure_of_a_guard_works(selection: Selection, guards: dict[str, Any]) -> None:
    if "one_class" in guards:
        selection = replace(selection, class_ids=np.zeros(100, dtype=int))
    codes = SPACE.class_codes[np.arange(60) % 6]
    wrong = np.eye(6)[(np.arange(60) + 1) % 6]
    held_out = HeldOutFaces(wrong, codes, np.arange(60)) if "worse_than_chance" in guards else None
    (fault, *_) = faults_of(selection, held_out=held_out, **guards)
    (cure,) = [cure for cure in cures(fault) if cure.startswith("selection.guards.")]
    key, _, value = cure.removeprefix("selection.guards.").partition("=")
    assert fault not in faults_of(selection, held_out=held_out, **guards | {key: read_yaml(value)})


def test_every_accepted_face_in_one_class_is_a_fault(selection: Selection) -> None:
    assert faults_of(selection, one_class=True) == []
    one = replace(selection, class_ids=np.where(selection.accepted.any(axis=1), 4, 0))
    assert faults_of(one, one_class=True) == [
        "all 12 accepted faces are most probably female/30-59; check `ssl-pipeline manifest summary`, train a better "
        "teacher, or, if the pool has no other faces, --set selection.guards.one_class=false"
    ]
    assert faults_of(one) == []


@pytest.mark.parametrize(("class_ids", "num_faults"), [([4], 0), ([4, 4], 1), ([4, 3], 0), ([3, 4, 4], 0)])
def test_two_equal_faces_are_one_class_and_a_single_face_is_none(
    selection: Selection, class_ids: list[int], num_faults: int
) -> None:
    """As many accepted faces as `class_ids`, each by one attribute alone; all other faces have class 0."""
    accepted, ids = np.zeros((100, 2), dtype=bool), np.zeros(100, dtype=np.int64)
    accepted[50 : 50 + len(class_ids), 1], ids[50 : 50 + len(class_ids)] = True, class_ids
    assert len(faults_of(replace(selection, accepted=accepted, class_ids=ids), one_class=True)) == num_faults


def test_a_value_far_from_its_share_on_validation_is_too_rare_or_too_frequent(selection: Selection) -> None:
    codes = np.array([[1, 2]] * 2 + [[1, 0]] * 18 + [[0, UNKNOWN]] * 20)
    held_out = HeldOutFaces(np.full((40, 6), 1 / 6), codes, np.arange(40))
    # accepted: each gender 50 %, each age a third; validation: each gender 50 %, ages 90 %, 0 %, 10 %
    assert faults_of(selection, held_out=held_out, min_share_ratio=0.3, max_share_ratio=4.0) == [
        "'age': 30-59 is 33.33 % of accepted labels, 0 % of validation faces: too frequent; --set selection.align=training, "
        "choose selection.type balanced_top_k, or --set selection.guards.max_share_ratio=null (now 4)"
    ]
    assert faults_of(selection, held_out=held_out, min_share_ratio=0.5)[0].startswith(
        "'age': <30 is 33.33 % of accepted labels, 90 % of validation faces: too rare; "
    )
    per_class = faults_of(selection, {"type": "fixed_threshold", "per": "class"}, held_out, min_share_ratio=0.2)
    assert [fault.partition(" of accepted")[0] for fault in per_class] == ["'class': female/<30 is 16.67 %"]
    only_age = replace(selection, accepted=selection.accepted & [False, True])  # no gender is accepted
    assert len(faults_of(only_age, held_out=held_out, min_share_ratio=0.3, max_share_ratio=4.0)) == 1
    just = HeldOutFaces(np.full((4, 6), 1 / 6), np.array([[0, 0], [0, 0], [0, 0], [1, 0]]), np.arange(4))
    only_gender = replace(selection, accepted=selection.accepted & [True, False])  # half are women, here a quarter
    assert faults_of(only_gender, held_out=just, max_share_ratio=2.0) == []  # exactly the allowed share
    assert len(faults_of(only_gender, held_out=just, max_share_ratio=1.99)) == 1
    one_face = replace(selection, accepted=np.arange(100)[:, None] < [1, 0])
    assert "male is 100 % of accepted labels" in faults_of(one_face, held_out=just, max_share_ratio=1.1)[0]
    only_men = replace(selection, attribute_codes=np.zeros((100, 2), dtype=np.int64))
    assert faults_of(only_men, held_out=held_out) == []  # a share of 0 is not below 0
    assert faults_of(selection, held_out=None, min_share_ratio=0.9, max_share_ratio=1.01) == []


def test_a_teacher_worse_than_a_constant_prediction_is_a_fault(selection: Selection) -> None:
    codes = np.array([[0, 0], [0, 1], [0, 2], [1, 0]])
    good = np.eye(6)[SPACE.class_ids(codes)]
    assert faults_of(selection, held_out=HeldOutFaces(good, codes, np.arange(4)), worse_than_chance=True) == []
    bad = good.copy()
    bad[:3] = np.eye(6)[[3, 4, 5]]  # men predicted as women
    bad[3] = np.eye(6)[0]
    faults = faults_of(selection, held_out=HeldOutFaces(bad, codes, np.arange(4)), worse_than_chance=True)
    assert [fault.partition(";")[0] for fault in faults] == [
        "'gender': the teacher's balanced accuracy on validation faces is 0 %, below 50 % of a constant prediction"
    ]
    assert faults[0].partition("; ")[2] == (
        "train a better teacher, give more labeled faces, or --set selection.guards.worse_than_chance=false"
    )
    constant = np.eye(6)[[0, 0, 0, 0]]  # exactly as good as a constant prediction
    assert faults_of(selection, held_out=HeldOutFaces(constant, codes, np.arange(4)), worse_than_chance=True) == []
    assert (
        faults_of(selection, held_out=HeldOutFaces(bad[:3], codes[:3], np.arange(3)), worse_than_chance=True) == []
    )  # men only


def test_the_balance_of_a_teacher_is_over_values_and_unlabeled_faces_are_no_value(selection: Selection) -> None:
    """17 of 18 women and 0 of 2 men are right: 85 % of the faces, but a balanced 47 %; the last six have no label."""
    codes = np.array([[0, 0]] * 2 + [[1, 0]] * 18 + [[UNKNOWN, UNKNOWN]] * 6)
    predicted = np.eye(6)[[3] * 2 + [0] + [3] * 17 + [0] * 6]
    held_out = HeldOutFaces(predicted, codes, np.arange(26))
    (fault,) = faults_of(selection, held_out=held_out, worse_than_chance=True, min_share_ratio=0.0)
    assert fault.startswith(
        "'gender': the teacher's balanced accuracy on validation faces is 47.22 %, below 50 % of a constant prediction"
    )
    one_gender = HeldOutFaces(np.eye(6)[[1, 2, 0]], np.array([[0, 0], [0, 1], [0, 2]]), np.arange(3))
    (fault,) = faults_of(selection, held_out=one_gender, worse_than_chance=True, min_share_ratio=0.0)
    assert fault.startswith("'age': ")  # a gender alone says nothing, and the age is judged nevertheless


def test_faces_without_a_label_are_in_no_share(selection: Selection) -> None:
    """Of the labeled half of the faces, each value has its share; the others would halve it."""
    labeled = SPACE.class_codes[np.arange(12) % 6]
    codes = np.concatenate([labeled, np.full((12, 2), UNKNOWN)])
    held_out = HeldOutFaces(np.full((24, 6), 1 / 6), codes, np.arange(24))
    assert faults_of(selection, held_out=held_out, min_share_ratio=0.99, max_share_ratio=1.01) == []
    per_class = {"type": "fixed_threshold", "per": "class"}
    assert faults_of(selection, per_class, held_out, min_share_ratio=0.99, max_share_ratio=1.01) == []


def test_faults_raise_or_pass_as_configured() -> None:
    stops, warns = (config_of(ALL[0], guards={"on_fault": what}) for what in ("stop", "warn"))
    stop_on([], stops)
    stop_on(["a", "b"], warns)
    with pytest.raises(SelectionError, match=r"^a$"):
        stop_on(["a"], stops)
    with pytest.raises(SelectionError, match=r"^2 faults of the selection\n  a\n  b$"):
        stop_on(["a", "b"], stops)
