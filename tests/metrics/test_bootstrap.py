"""Bootstrap intervals: what must hold for every interval, and how often they hold the truth."""

import numpy as np
import pytest

from monai_kd.metrics import bootstrap_interval


def test_same_seed_same_interval():
    values = np.random.default_rng(1).uniform(size=30)
    ones = np.ones(30)
    first = bootstrap_interval(values, ones, 500, seed=3)
    assert first == bootstrap_interval(values, ones, 500, seed=3)
    assert first != bootstrap_interval(values, ones, 500, seed=4)
    assert values.min() < first[0] < values.mean() < first[1] < values.max()


def test_equals_a_loop_over_resamples():
    generator = np.random.default_rng(2)
    totals, counts = generator.uniform(1, 5, 12), generator.integers(1, 6, 12)
    drawn = np.random.default_rng(7).integers(12, size=(400, 12))
    means = [sum(totals[i] for i in row) / sum(counts[i] for i in row) for row in drawn]
    expected = np.percentile(means, [2.5, 97.5])
    assert bootstrap_interval(totals, counts, 400, seed=7) == pytest.approx(tuple(expected))


@pytest.mark.parametrize("counts", [[1, 1, 1], [1, 4, 9]])
def test_equal_patients_have_no_spread(counts):
    low, high = bootstrap_interval([0.1 * n for n in counts], counts, 200, seed=0)
    assert (low, high) == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize(("patients", "resamples"), [(0, 100), (1, 100), (5, 0)])
def test_no_interval_where_nothing_can_be_said(patients, resamples):
    assert bootstrap_interval([0.5] * patients, [1] * patients, resamples, seed=0) is None


def test_covers_the_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    held = 0
    for repetition in range(300):
        low, high = bootstrap_interval(generator.normal(0.7, 0.1, 40), np.ones(40), 300, seed=repetition)
        held += low <= 0.7 <= high
    # Percentile intervals of 40 patients are a little too narrow; three standard errors of 300 trials are 0.04.
    assert 0.89 <= held / 300 <= 0.985


def test_drawing_patients_is_wider_than_drawing_slices_when_slices_of_a_patient_agree():
    values = np.random.default_rng(5).uniform(size=25)
    slices = 16
    low, high = bootstrap_interval(values * slices, np.full(25, slices), 1000, seed=0)
    as_if = bootstrap_interval(np.repeat(values, slices), np.ones(25 * slices), 1000, seed=0)
    # 16 equal slices bear no more than one: pretending otherwise narrows the interval by √16.
    assert (high - low) / (as_if[1] - as_if[0]) == pytest.approx(4, rel=0.15)


def test_memory_is_bounded_for_many_resamples(monkeypatch):
    values, weights = np.random.default_rng(1).uniform(size=9), np.ones(9)
    whole = bootstrap_interval(values, weights, 1000, seed=0)
    monkeypatch.setattr("monai_kd.metrics.bootstrap._DRAWN_AT_ONCE", 30)
    assert bootstrap_interval(values, weights, 1000, seed=0) == whole


@pytest.mark.parametrize(
    ("totals", "weights", "level", "match"),
    [
        ([1, 2], [1], 0.95, "one of each for a patient"),
        ([1, 2], [1, 0], 0.95, "positive"),
        ([1, float("nan")], [1, 1], 0.95, "finite"),
        ([1, 2], [1, 1], 95, "level"),
    ],
)
def test_bad_arguments(totals, weights, level, match):
    with pytest.raises(ValueError, match=match):
        bootstrap_interval(totals, weights, 10, 0, level)
