"""Uncertainty of slices, against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from monai_kd.metrics import slice_disagreement, slice_entropy


def probabilities(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape)


def pairs(probability: np.ndarray) -> np.ndarray:
    return np.stack([probability, 1 - probability])


def test_entropy_is_that_of_scipy():
    p = probabilities(5, 7)
    assert slice_entropy(p) == pytest.approx(entropy(pairs(p), axis=0).mean())


def test_disagreement_is_that_of_scipy():
    p, q = probabilities(5, 7), probabilities(5, 7, seed=1)
    assert slice_disagreement(p, q) == pytest.approx((jensenshannon(pairs(p), pairs(q), axis=0) ** 2).mean())


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param(0.0, 1.0, np.log(2), id="sure of opposites"),
        pytest.param(1.0, 1.0, 0.0, id="sure of the same"),
        pytest.param(0.5, 0.5, 0.0, id="both unsure"),
    ],
)
def test_disagreement_at_the_ends(one, other, expected):
    assert slice_disagreement(np.full((3, 4), one), np.full((3, 4), other)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sure", [0.0, 1.0])
def test_a_sure_slice_has_no_entropy(sure):
    assert slice_entropy(np.full((3, 4), sure)) == 0


def test_a_volume_counts_as_its_most_uncertain_slice():
    volume = probabilities(5, 7, 3)
    assert slice_entropy(volume) == pytest.approx(max(slice_entropy(volume[..., i]) for i in range(3)))
    other = probabilities(5, 7, 3, seed=1)
    each = [slice_disagreement(volume[..., i], other[..., i]) for i in range(3)]
    assert slice_disagreement(volume, other) == pytest.approx(max(each))


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"the same shape, got \(2, 2\) and \(2, 3\)"):
        slice_disagreement(np.zeros((2, 2)), np.zeros((2, 3)))
