"""The mask of the highest expected Dice, against enumeration and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_kd.export.network_file import marked
from monai_kd.inference import DecideMaskd, threshold_of_expected_dice

EXPECTED = "expected_dice"


TRUTHS = np.array(list(itertools.product((0, 1), repeat=10)))


def expected_dice(masks: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Of masks, (n, 10), by enumeration of all truths, of independent pixels."""
    weights = np.where(TRUTHS, probability, 1 - probability).prod(1)
    return (2 * masks @ TRUTHS.T / (masks.sum(1)[:, None] + TRUTHS.sum(1))) @ weights


@pytest.mark.parametrize("seed", range(8))
def test_it_is_nearly_the_best_of_all_masks(seed: int) -> None:
    probability = np.random.default_rng(seed).beta(0.4, 0.8, 10)
    best = expected_dice(TRUTHS[1:], probability).max()
    assert best > np.prod(1 - probability)
    thresholds = [threshold_of_expected_dice(torch.as_tensor(probability)), 0.5]
    found, half = expected_dice(np.array([1.0 * (probability >= each) for each in thresholds]), probability)
    # The ratio of expectations in place of the expectation of the ratio; ten pixels are few.
    assert found > best - 0.02
    assert found >= half - 0.005


def ratio(probability: np.ndarray, count: int) -> float:
    return float(2 * np.sort(probability)[::-1][:count].sum() / (count + probability.sum()))


@pytest.mark.parametrize("highest", [1, 0.4, 0.05, 0.005, 1e-5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_other_threshold_has_a_higher_ratio(highest: float, dtype: type) -> None:
    probability = (highest * np.random.default_rng(1).beta(0.1, 1, 400)).astype(dtype)
    threshold = threshold_of_expected_dice(torch.as_tensor(probability))
    # In a package, which has numpy alone.
    assert np.array_equal(marked(probability, EXPECTED), probability >= threshold)
    count = int((probability >= threshold).sum())
    wide = probability.astype(float)
    best = max(ratio(wide, each) for each in range(1, 401))
    assert (np.prod(1 - wide) > best) == (highest < 0.1)
    if highest < 0.1:
        assert (count, threshold) == (0, np.inf)
        return
    assert ratio(wide, count) == pytest.approx(best, abs=1e-9)
    # What the theory says of the threshold.
    assert threshold >= best / 2 - 1e-6
    assert count == 400 or np.sort(wide)[::-1][count] <= best / 2 + 1e-6


def test_a_sure_network_marks_what_half_the_probability_marks() -> None:
    probability = torch.full((1, 32, 32), 1e-6)
    probability[0, 8:16, 8:16] = 0.99
    assert torch.equal(
        DecideMaskd("pred", threshold=EXPECTED)({"pred": probability})["pred"], (probability > 0.5) * 1.0
    )


def test_channels_and_slices_are_decided_apart() -> None:
    probability = torch.rand(2, 6, 6, 4, generator=torch.Generator().manual_seed(0)) ** 8
    probability[..., 2] = 0.2
    probability[..., 3] *= 0.001
    whole = DecideMaskd("pred", threshold=EXPECTED)({"pred": probability})["pred"]
    each = DecideMaskd("pred", threshold=EXPECTED, each_slice=True, ruled=True)({"pred": probability})["pred"]
    for channel in range(2):
        assert torch.equal(whole[channel] > 0, probability[channel] >= threshold_of_expected_dice(probability[channel]))
        for z in range(4):
            own = probability[channel, ..., z]
            assert torch.equal(each[channel, ..., z] > 0, own >= threshold_of_expected_dice(own))
    # Where the network is sure that there is nothing, nothing is marked; what is faint is where it is looked at alone.
    assert not each[..., 3].any()
    assert each[..., 2].all()
    assert not whole[..., 2].any()


def test_a_class_that_is_not_there_is_not_marked() -> None:
    """Of classes that may overlap, beside one that is there; the rule of presence asks for any of them."""
    probability = torch.full((2, 32, 32), 1e-4)
    probability[0, 8:16, 8:16] = 0.99
    mask = DecideMaskd("pred", threshold=EXPECTED)({"pred": probability})["pred"]
    assert mask.sum((1, 2)).tolist() == [64, 0]
    assert not marked(probability[1].numpy(), EXPECTED).any()


@pytest.mark.parametrize("threshold", [0.5, EXPECTED])
def test_the_geometry_is_kept(threshold: float | str) -> None:
    affine = torch.diag(torch.tensor([2.0, 3, 4, 1], dtype=torch.float64))
    probability = MetaTensor(torch.rand(1, 5, 5, 3), affine=affine, meta={"spacing": 2})
    mask = DecideMaskd("pred", threshold=threshold, each_slice=True, ruled=True)({"pred": probability})["pred"]
    assert isinstance(mask, MetaTensor)
    assert torch.equal(mask.affine, affine)
    assert mask.dtype == torch.float32
    assert set(mask.unique().tolist()) == {0, 1}


def test_the_most_probable_class() -> None:
    probability = torch.softmax(torch.randn(3, 4, 4), 0)
    found = DecideMaskd("pred", argmax=True, threshold=0.5)({"pred": probability})["pred"]
    assert torch.equal(found[0], probability.argmax(0).float())


def test_where_it_can_not_be_used() -> None:
    with pytest.raises(ValueError, match="gives each pixel the most probable of several classes"):
        DecideMaskd("pred", argmax=True, threshold=EXPECTED)
    with pytest.raises(ValueError, match="presence_threshold 0 if each slice shows what"):
        DecideMaskd("pred", threshold=EXPECTED, each_slice=True)
