"""Scores of slices beside each other: properties, and a second implementation, slice by slice."""

from __future__ import annotations

import math

import numpy as np
import pytest

from monai_kd.export.predict import in_context
from monai_kd.metrics import presence_in_context


def odds(score: float) -> float:
    return math.log(score / (1 - score))


def all_runs(scores: list[float], positions: list[float], weight: float) -> list[float]:
    """The definition, with every run there is."""
    count, found = len(scores), []
    for here, score in enumerate(scores):
        lowest = [
            min(scores[first : last + 1])
            for first in range(here + 1)
            for last in range(here, count)
            if abs(positions[last] - positions[first]) > 4.999
            and all(abs(positions[n + 1] - positions[n]) < 15.001 for n in range(first, last))
        ]
        if not lowest or max(lowest) == score:
            found.append(score)
            continue
        mean = (odds(score) + weight * odds(max(lowest))) / (1 + weight)
        found.append(1 / (1 + math.exp(-mean)))
    return found


@pytest.mark.parametrize("weight", [0, 0.5, 1])
@pytest.mark.parametrize("step", [0.8, 1, 2.5, 5, 6.5, 14.9, 16])
def test_against_all_runs_and_the_exported_package(step, weight):
    scores = np.random.default_rng(0).uniform(0.01, 0.99, size=30)
    positions = step * np.arange(30)
    expected = all_runs(scores.tolist(), positions.tolist(), weight)
    assert presence_in_context(scores, positions, weight) == pytest.approx(expected)
    assert in_context(scores, step, weight) == pytest.approx(expected)
    # Whichever way the slices are counted.
    assert presence_in_context(scores[::-1], -positions[::-1], weight)[::-1] == pytest.approx(expected)


def test_uneven_gaps_go_by_positions():
    scores, positions = np.array([0.1, 0.9, 0.2, 0.8, 0.7, 0.95]), np.array([0.0, 4, 8, 22, 30, 60])
    assert presence_in_context(scores, positions) == pytest.approx(all_runs(scores.tolist(), positions.tolist(), 1))
    assert presence_in_context(scores, positions)[-1] == 0.95  # too far from all others
    generator = np.random.default_rng(2)
    for _ in range(20):
        scores, positions = generator.uniform(0.01, 0.99, size=12), generator.uniform(0.3, 18, size=12).cumsum()
        assert presence_in_context(scores, positions) == pytest.approx(all_runs(scores.tolist(), positions.tolist(), 1))


def test_a_tumour_of_thin_slices_stays_if_it_reaches_over_5_mm():
    positions = 2.0 * np.arange(12)
    wide, short = (np.where((np.arange(12) >= 3) & (np.arange(12) < 3 + n), 0.9, 0.1) for n in (4, 3))
    assert (presence_in_context(wide, positions) == wide).all()
    assert presence_in_context(short, positions)[3:6] == pytest.approx([0.5] * 3)


def test_without_a_known_distance_the_next_slices_are_the_neighbours():
    scores = np.array([0.2, 0.9, 0.4, 0.95])
    unknown, known = (presence_in_context(scores, places) for places in (np.full(4, np.nan), 6.0 * np.arange(4)))
    assert unknown == pytest.approx(known)


def test_no_score_rises_and_the_best_of_a_row_of_equals_stays():
    scores = np.random.default_rng(1).uniform(size=50)
    lower = presence_in_context(scores, 7.0 * np.arange(50))
    assert (lower <= scores).all()
    assert (lower < scores).any()
    same = np.full(5, 0.97)
    assert (presence_in_context(same, 7.0 * np.arange(5)) == same).all()
    lone = presence_in_context(np.array([0.1, 0.9, 0.1]), 7.0 * np.arange(3))
    assert lone == pytest.approx([0.1, 0.5, 0.1])


def test_certain_scores_and_single_slices():
    found = presence_in_context(np.array([0.0, 1.0, 0.0]), 7.0 * np.arange(3))
    assert np.isfinite(found).all()
    assert found[1] == pytest.approx(0.5)
    assert presence_in_context(np.array([0.7]), np.array([np.nan])) == [0.7]
    unchanged = np.array([1.0, 0.0, 1.0])
    assert (presence_in_context(unchanged, 7.0 * np.arange(3), 0) == unchanged).all()


@pytest.mark.parametrize(("weight", "positions"), [(1.1, [0, 7]), (-0.1, [0, 7]), (1, [0, 7, 14])])
def test_what_is_refused(weight, positions):
    with pytest.raises(ValueError, match=r"weight must lie|must be \(Z,\)"):
        presence_in_context(np.array([0.5, 0.6]), np.array(positions, dtype=float), weight)
