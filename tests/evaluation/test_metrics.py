"""Metrics against scikit-learn and values computed by hand."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from ssl_pipeline.config.metrics import METRIC_DIRECTIONS, NUMBER_METRICS
from ssl_pipeline.errors import TrainingError
from ssl_pipeline.evaluation.metrics import drop_tables, evaluate_predictions, metric_value, score_predictions
from ssl_pipeline.faces.regression_targets import RegressionTargets
from ssl_pipeline.labels import LabelSpace

SPACE = LabelSpace.of({"gender": ["male", "female"], "age": ["<30", "30-59", ">=60"]})


def random_predictions(num_faces: int = 300, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class ids, their value codes, and probabilities that are better than chance (float32, as from a model)."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 6, size=num_faces)
    logits = rng.normal(size=(num_faces, 6)) + np.eye(6)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, SPACE.class_codes[truth], probabilities.astype(np.float32)


def reference_scores(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Scores by scikit-learn; every class must occur in the truth, so that its averages cover the same classes."""
    predicted, num_classes = probabilities.argmax(1), probabilities.shape[1]
    exact = probabilities.astype(np.float64) / probabilities.sum(1, dtype=np.float64)[:, None]
    one_hot = np.eye(num_classes)[truth]
    scores = {
        "accuracy": reference.accuracy_score(truth, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, predicted),
        "average_precision": reference.average_precision_score(one_hot, exact, average="macro"),
        "log_loss": reference.log_loss(one_hot, exact),
        "brier_score": ((exact - one_hot) ** 2).sum(1).mean(),
        "ndcg": reference.ndcg_score(one_hot, exact),
        "mean_reciprocal_rank": reference.label_ranking_average_precision_score(one_hot, exact),
        "roc_auc": reference.roc_auc_score(one_hot, exact, average="macro"),
    }
    for average in ("macro", "weighted"):
        scores[f"{average}_precision"] = reference.precision_score(truth, predicted, average=average)
        scores[f"{average}_recall"] = reference.recall_score(truth, predicted, average=average)
        scores[f"{average}_f1"] = reference.f1_score(truth, predicted, average=average)
    return scores


def test_scores_computed_by_hand() -> None:
    # truth: male/<30, male/<30, female/<30, female/>=60; all correct, except the last, predicted female/<30
    codes = np.array([[0, 0], [0, 0], [1, 0], [1, 2]])
    probabilities = np.eye(6)[[0, 0, 3, 3]]
    scores = evaluate_predictions(probabilities, codes, labels=SPACE)
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)  # classes 0, 3 and 5 occur
    assert scores["balanced_accuracy"] == scores["macro_recall"] == pytest.approx(2 / 3)
    assert scores["macro_precision"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert scores["weighted_precision"] == pytest.approx((2 * 1 + 1 / 2 + 0) / 4)
    assert scores["weighted_f1"] == pytest.approx((2 * 1 + 2 / 3 + 0) / 4)
    assert scores["brier_score"] == pytest.approx(2 / 4)
    assert scores["expected_calibration_error"] == pytest.approx(0.25)
    gender = scores["per_attribute"]["gender"]
    assert gender["macro_f1"] == gender["accuracy"] == gender["roc_auc"] == gender["ndcg"] == 1.0
    assert gender["brier_score"] == gender["expected_calibration_error"] == 0.0
    assert scores["per_attribute"]["age"]["macro_f1"] == pytest.approx((6 / 7 + 0) / 2)
    assert scores["per_class"]["female/>=60"] == {
        "num_faces": 1,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "roc_auc": 0.5,
        "average_precision": 0.25,
    }
    assert list(scores["per_class"]) == ["male/<30", "female/<30", "female/>=60"]
    assert scores["per_attribute"]["age"]["per_value"]["<30"]["precision"] == 0.75
    assert scores["per_attribute"]["age"]["confusion_matrix"] == {
        "names": ["<30", "30-59", ">=60"],
        "counts": [[3, 0, 0], [0, 0, 0], [1, 0, 0]],
    }


def test_scores_equal_scikit_learn_on_random_predictions() -> None:
    truth, codes, probabilities = random_predictions()
    scores = evaluate_predictions(probabilities, codes, labels=SPACE)
    for metric, value in reference_scores(truth, probabilities).items():
        assert scores[metric] == pytest.approx(value), metric
    age = np.stack([probabilities[:, [a, a + 3]].sum(1) for a in range(3)], 1)
    gender = np.stack([probabilities[:, 3 * g : 3 * g + 3].sum(1) for g in range(2)], 1)
    for name, marginal in (("gender", gender), ("age", age)):
        attribute_codes = codes[:, SPACE.names.index(name)]
        for metric, value in reference_scores(attribute_codes, marginal).items():
            assert scores["per_attribute"][name][metric] == pytest.approx(value), (name, metric)


def test_scores_of_each_class_equal_scikit_learn_on_random_predictions() -> None:
    truth, codes, probabilities = random_predictions(seed=1)
    scores = evaluate_predictions(probabilities, codes, labels=SPACE)
    report = reference.classification_report(
        truth, probabilities.argmax(1), target_names=SPACE.class_names, output_dict=True
    )
    for class_id, name in enumerate(SPACE.class_names):
        class_scores = scores["per_class"][name]
        assert class_scores["num_faces"] == report[name]["support"]
        assert class_scores["precision"] == pytest.approx(report[name]["precision"])
        assert class_scores["recall"] == pytest.approx(report[name]["recall"])
        assert class_scores["f1"] == pytest.approx(report[name]["f1-score"])
        is_class, class_probabilities = truth == class_id, probabilities[:, class_id]
        assert class_scores["roc_auc"] == pytest.approx(reference.roc_auc_score(is_class, class_probabilities))
        assert class_scores["average_precision"] == pytest.approx(
            reference.average_precision_score(is_class, class_probabilities)
        )
    counts = reference.confusion_matrix(truth, probabilities.argmax(1))
    assert scores["confusion_matrix"]["counts"] == counts.tolist()


def test_classes_that_do_not_occur_are_left_out_of_the_averages() -> None:
    truth, codes, probabilities = random_predictions()
    kept = truth % 2 == 0  # classes 0, 2 and 4; the others are still predicted
    scores = score_predictions(probabilities[kept], codes[kept], labels=SPACE)
    roc_aucs = [reference.roc_auc_score(truth[kept] == c, probabilities[kept][:, c]) for c in (0, 2, 4)]
    assert scores["roc_auc"] == pytest.approx(np.mean(roc_aucs))
    recalls = reference.recall_score(truth[kept], probabilities[kept].argmax(1), labels=[0, 2, 4], average="macro")
    assert scores["balanced_accuracy"] == pytest.approx(recalls)


def test_undefined_scores_are_none_and_all_scores_are_plain_json() -> None:
    codes = np.zeros((3, 2), dtype=np.int64)
    numbers = {"age": RegressionTargets(np.array([np.nan, 20, 30]), np.array([20.0, np.nan, 70.0]))}
    groups = pd.DataFrame({"origin": [None, None, None]})
    scores = evaluate_predictions(np.eye(6)[[0, 1, 0]], codes, labels=SPACE, groups=groups, numbers=numbers)
    assert scores["roc_auc"] is scores["average_precision"] is scores["per_class"]["male/<30"]["roc_auc"] is None
    assert scores["per_attribute"]["age"]["mean_absolute_error"] is None  # no known age in 30-59
    assert scores["per_attribute"]["age"]["num_numbers"] == 2
    assert scores["per_group"] == {"origin": {}}
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


@pytest.mark.filterwarnings("ignore:A single label")
def test_an_attribute_of_a_single_value_can_be_scored() -> None:
    labels = LabelSpace.of({"face": ["yes"]})
    scores = evaluate_predictions(np.ones((2, 1)), np.zeros((2, 1), dtype=np.int64), labels=labels)
    assert (scores["accuracy"], scores["log_loss"], scores["roc_auc"]) == (1.0, None, None)


def test_an_attribute_is_predicted_by_its_summed_probability() -> None:
    # the most probable class is male/<30, but female is the more probable gender
    scores = evaluate_predictions(np.array([[0.4, 0, 0, 0.3, 0.3, 0]]), np.array([[1, 0]]), labels=SPACE)
    assert scores["per_attribute"]["gender"]["accuracy"] == 1.0
    assert scores["accuracy"] == 0.0


def test_groups_are_scored_separately_and_faces_without_a_group_in_none() -> None:
    codes = np.array([[0, 0], [0, 0], [1, 1]])
    groups = pd.DataFrame({"origin": ["asian", "white", None]})
    scores = evaluate_predictions(np.eye(6)[[0, 1, 4]], codes, labels=SPACE, groups=groups)
    right = {"num_faces": 1, "macro_f1": 1.0, "accuracy": 1.0, "balanced_accuracy": 1.0}
    wrong = {"num_faces": 1, "macro_f1": 0.0, "accuracy": 0.0, "balanced_accuracy": 0.0}
    assert scores["per_group"]["origin"] == {
        "asian": {**right, "expected_calibration_error": 0.0},
        "white": {**wrong, "expected_calibration_error": 1.0},
    }


def test_a_groups_scores_equal_those_of_its_faces_alone() -> None:
    _, codes, probabilities = random_predictions()
    members = np.arange(len(codes)) % 3 == 0
    groups = pd.DataFrame({"third": np.where(members, "a", "b")})
    scores = evaluate_predictions(probabilities, codes, labels=SPACE, groups=groups)
    alone = score_predictions(probabilities[members], codes[members], labels=SPACE)
    for metric, value in scores["per_group"]["third"]["a"].items():
        assert value == pytest.approx(alone[metric]), metric


def test_a_partly_known_face_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="1 partly known"):
        evaluate_predictions(np.eye(6)[[0]], np.array([[0, -1]]), labels=SPACE)


def test_probabilities_that_are_not_finite_are_refused_with_the_cure() -> None:
    probabilities = np.eye(6)[[0, 1]]
    probabilities[1] = np.nan
    with pytest.raises(TrainingError, match=r"of 1 of 2 faces are not finite.*lower training\.optimizer"):
        score_predictions(probabilities, np.zeros((2, 2), dtype=np.int64), labels=SPACE)


def test_every_named_metric_is_computed_and_found_by_its_name() -> None:
    _, codes, probabilities = random_predictions()
    numbers = {"age": RegressionTargets(np.full(300, 40.0), np.array([20.0, 45.0, 70.0]))}
    scores = score_predictions(probabilities, codes, labels=SPACE, numbers=numbers)
    for metric in METRIC_DIRECTIONS:
        assert metric_value(scores, f"age.{metric}") == scores["per_attribute"]["age"][metric]
        if metric not in NUMBER_METRICS:
            assert metric_value(scores, metric) == scores[metric]
    assert metric_value(scores, "gender.mean_absolute_error") is None
    with pytest.raises(ValueError, match="no attribute 'mask'; the attributes: gender, age"):
        metric_value(scores, "mask.macro_f1")


@pytest.mark.parametrize("metric", [name for name in METRIC_DIRECTIONS if name not in NUMBER_METRICS])
def test_better_predictions_move_a_metric_in_its_direction(metric: str) -> None:
    truth, codes, probabilities = random_predictions()
    better = 0.05 * probabilities + 0.95 * np.eye(6)[truth]
    worse, good = (score_predictions(p, codes, labels=SPACE)[metric] for p in (probabilities, better))
    assert good > worse if METRIC_DIRECTIONS[metric] == "max" else good < worse


def test_a_summary_has_every_number_but_no_tables() -> None:
    _, codes, probabilities = random_predictions()
    scores = evaluate_predictions(probabilities, codes, labels=SPACE)

    def keys(values: dict[str, Any]) -> set[str]:
        return set(values) | {key for value in values.values() if isinstance(value, dict) for key in keys(value)}

    summary = drop_tables(scores)
    assert keys(scores) - keys(summary) == {"confusion_matrix", "reliability", "names", "counts"}
    assert summary["per_attribute"]["age"]["macro_f1"] == scores["per_attribute"]["age"]["macro_f1"]


def test_a_marginal_that_rounds_above_one_is_accepted() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, SPACE.num_classes, 5000)
    probabilities = np.zeros((5000, SPACE.num_classes))
    probabilities[:, 3:] = rng.random((5000, 3))  # female with probability 1
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    marginals = SPACE.attribute_probabilities(probabilities / probabilities.sum(axis=1, keepdims=True))
    assert max(float(marginal.max()) for marginal in marginals) > 1.0
    scores = score_predictions(probabilities, SPACE.class_codes[truth], labels=SPACE)
    assert all(values["brier_score"] <= 2 for values in scores["per_attribute"].values())
