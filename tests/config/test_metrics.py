"""Names of metrics in a config."""

import pytest
from pydantic import TypeAdapter, ValidationError

from ssl_pipeline.config.metrics import MetricName, check_metric, metric_direction, split_metric


def test_a_name_is_a_metric_of_the_joint_classes_or_of_an_attribute() -> None:
    assert split_metric("macro_f1") == (None, "macro_f1")
    assert split_metric("age.mean_absolute_error") == ("age", "mean_absolute_error")
    assert metric_direction("gender.roc_auc") == "max"
    assert metric_direction("age.mean_absolute_error") == metric_direction("log_loss") == "min"


@pytest.mark.parametrize("name", ["f1", "age.f1", ".macro_f1", "age.", "", "macro_f1.age"])
def test_an_unknown_metric_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValidationError, match=r"expected one of accuracy, .* e\.g\. age\.macro_f1; got"):
        TypeAdapter(MetricName).validate_python(name)


def test_a_regression_metric_needs_an_attribute_with_numbers() -> None:
    with pytest.raises(ValueError, match=r"write e\.g\. age\.mean_absolute_error"):
        split_metric("mean_absolute_error")
    check_metric("age.mean_absolute_error", attributes=["gender", "age"], with_numbers=["age"])
    with pytest.raises(ValueError, match="attribute 'gender' has no bins of a number"):
        check_metric("gender.mean_absolute_error", attributes=["gender", "age"], with_numbers=["age"])


def test_an_attribute_that_does_not_exist_is_refused() -> None:
    check_metric("age.macro_f1", attributes=["gender", "age"])
    with pytest.raises(ValueError, match=r"'mask\.macro_f1': no attribute 'mask'; the attributes: gender, age"):
        check_metric("mask.macro_f1", attributes=["gender", "age"])
