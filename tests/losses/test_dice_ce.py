"""Dice and cross-entropy of masks that overlap."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss

from monai_kd.losses import DiceCE


def batch(channels: int, *size: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, *size, generator=random)
    return logits, (torch.rand(2, channels, *size, generator=random) > 0.6).float()


@pytest.mark.parametrize("size", [(8, 8), (6, 5, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_sigmoid_is_dice_and_binary_cross_entropy(channels, size):
    logits, masks = batch(channels, *size)
    expected = DiceLoss(sigmoid=True)(logits, masks) + F.binary_cross_entropy_with_logits(logits, masks)
    torch.testing.assert_close(DiceCE(sigmoid=True)(logits, masks), expected)


def test_of_overlapping_masks_each_channel_is_by_itself():
    """With MONAI's, a constant added to all logits changes no cross-entropy: no channel could learn to be empty."""
    logits, masks = batch(3, 8, 8)
    ours, monai = (each(sigmoid=True, lambda_dice=0) for each in (DiceCE, DiceCELoss))
    assert not torch.isclose(ours(logits, masks), ours(logits + 5, masks))
    torch.testing.assert_close(monai(logits, masks), monai(logits + 5, masks))


@pytest.mark.parametrize("size", [(8, 3), (6, 5, 3)])  # an axis as long as there are channels
def test_weights_are_of_the_positives_of_each_channel(size):
    logits, masks = batch(3, *size)
    weights = torch.tensor([1.0, 2.0, 5.0])
    each = [
        F.binary_cross_entropy_with_logits(logits[:, place], masks[:, place], pos_weight=weight)
        for place, weight in enumerate(weights)
    ]
    found = DiceCE(sigmoid=True, lambda_dice=0, weight=weights)(logits, masks)
    torch.testing.assert_close(found, torch.stack(each).mean())


@pytest.mark.parametrize("kwargs", [{"sigmoid": True}, {"softmax": True, "to_onehot_y": True}])
def test_one_channel_and_softmax_are_monai_s(kwargs):
    channels = 1 if "sigmoid" in kwargs else 4
    logits, masks = batch(channels, 8, 8)
    label = masks[:, :1]
    assert torch.equal(DiceCE(**kwargs)(logits, label), DiceCELoss(**kwargs)(logits, label))
