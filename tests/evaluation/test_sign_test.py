"""Exact sign test over units and Holm's correction, against counting by hand."""

from itertools import product

import numpy as np
import pytest

from ssl_pipeline.evaluation.sign_test import holm, sign_test


def test_the_p_value_equals_the_count_of_all_sign_patterns() -> None:
    first, second = np.array([1, 1, 1, 1, 1, 0, 1], bool), np.array([0, 0, 0, 0, 0, 1, 1], bool)
    result = sign_test(first, second, np.arange(7))
    assert (result.num_units, result.num_better, result.num_worse) == (7, 1, 5)
    assert result.p_value == pytest.approx(np.mean([sum(signs) >= 5 for signs in product((0, 1), repeat=6)]))


def test_a_unit_counts_once_however_many_faces_it_has() -> None:
    first, second = np.ones(10, bool), np.zeros(10, bool)
    second[8:] = True
    units = np.array([3] * 8 + [7, 9])
    result = sign_test(first, second, units)
    assert (result.num_units, result.num_better, result.num_worse, result.p_value) == (3, 0, 1, 0.5)
    assert sign_test(first, first, units).p_value == 1


def test_holm_rejects_step_by_step() -> None:
    values = np.array([0.04, 0.001, 0.012, 0.9])
    adjusted = holm(values)
    assert adjusted == pytest.approx([0.08, 0.004, 0.036, 0.9])
    for alpha in np.linspace(0.001, 0.2, 50):
        rejected, order = np.zeros(4, bool), np.argsort(values)
        for step, index in enumerate(order):
            if values[index] > alpha / (4 - step):
                break
            rejected[index] = True
        assert ((adjusted <= alpha) == rejected).all()
    assert holm([]).shape == (0,)
