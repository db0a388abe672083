"""Masks of several classes, as indices, one-hot and one by one."""

import numpy as np
import pytest
import torch

from monai_kd.transforms import foreground_probabilities, index_map, separate_masks

INDICES = np.random.default_rng(0).integers(0, 4, size=(9, 7, 2))
EACH = np.stack([number == INDICES for number in (1, 2, 3)])
OVERLAPPING = np.random.default_rng(1).random((3, 9, 7)) > 0.5


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("masks", "classes", "expected"),
    [
        pytest.param(INDICES[None], 3, EACH, id="indices"),
        pytest.param(np.stack([INDICES == 0, *EACH]).astype(float), 3, EACH, id="one-hot"),
        pytest.param(OVERLAPPING.astype(np.uint8), 3, OVERLAPPING, id="each"),
        pytest.param(INDICES[None], 1, INDICES[None] > 0, id="one class"),
        pytest.param(np.stack([INDICES == 0, INDICES > 0]), 1, INDICES[None] > 0, id="one class of a softmax"),
        pytest.param(INDICES[None] * 0, 3, EACH & False, id="empty"),
    ],
)
def test_one_mask_for_each_class(kind, masks, classes, expected):
    found = separate_masks(kind(masks), classes)
    assert type(found) is type(kind(masks))
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize(
    ("masks", "classes", "message"),
    [
        (np.zeros((2, 4, 4)), 3, r"1 channel \(indices\), 3 \(one for each class\) or 4"),
        (np.full((1, 4, 4), 3), 2, "indices from 0 to 2, got 3"),
    ],
)
def test_wrong_masks(masks, classes, message):
    with pytest.raises(ValueError, match=message):
        separate_masks(masks, classes)


def test_probabilities_without_the_background():
    channels = np.random.default_rng(0).random((4, 5, 5))
    np.testing.assert_array_equal(foreground_probabilities(channels, 3), channels[1:])
    np.testing.assert_array_equal(foreground_probabilities(channels, 4), channels)
    with pytest.raises(ValueError, match="2 channels, or 3 with the background, got"):
        foreground_probabilities(channels, 2)


def test_index_map_is_the_inverse_where_nothing_overlaps_and_else_the_last_class():
    np.testing.assert_array_equal(index_map(EACH), INDICES)
    expected = np.zeros((9, 7), int)
    for x, y in np.ndindex(9, 7):
        expected[x, y] = max((c + 1 for c in range(3) if OVERLAPPING[c, x, y]), default=0)
    np.testing.assert_array_equal(index_map(OVERLAPPING), expected)
