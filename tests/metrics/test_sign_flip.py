"""The p-value against all changes of sign, scipy's permutation test, and its own promise under no difference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from monai_kd.metrics import sign_flip_p_value


@pytest.mark.parametrize("shift", [0.0, 0.3, -0.6])
def test_all_changes_of_sign(shift):
    values = np.random.default_rng(1).standard_normal(10) + shift
    sums = np.array([np.dot(signs, values) for signs in product((1, -1), repeat=10)])
    exact = np.mean(np.abs(sums) >= abs(values.sum()) - 1e-12)
    assert sign_flip_p_value(values, 20_000, 0) == pytest.approx(exact, abs=0.015)


def test_as_scipy():
    values = np.random.default_rng(2).standard_normal(40) + 0.3
    found = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=20_000).pvalue
    assert sign_flip_p_value(values, 20_000, 0) == pytest.approx(found, abs=0.01)


def test_is_uniform_where_nothing_differs():
    generator = np.random.default_rng(3)
    found = [sign_flip_p_value(generator.standard_normal(30), 199, seed) for seed in range(300)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("totals", "resamples"), [([1.0], 100), ([], 100), ([1.0, 2.0], 0)])
def test_undefined(totals, resamples):
    assert sign_flip_p_value(totals, resamples, 0) is None


def test_scale_and_side_do_not_matter():
    values = np.random.default_rng(4).standard_normal(20) + 0.2
    one = sign_flip_p_value(values, 500, 7)
    assert sign_flip_p_value(-5 * values, 500, 7) == one == sign_flip_p_value(values, 500, 7)
