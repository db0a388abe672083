"""Dice and cross-entropy, also of masks that overlap."""

from __future__ import annotations

import torch
from monai.losses import DiceCELoss

__all__ = ["DiceCE"]


class DiceCE(DiceCELoss):
    r"""MONAI's ``DiceCELoss``, whose cross-entropy is binary wherever its activation is a sigmoid.

    .. math:: \mathcal{L} = \lambda_{Dice} \, \mathrm{Dice} + \lambda_{CE} \, \mathrm{CE}

    MONAI takes the cross-entropy of a softmax as soon as there are several channels, also with ``sigmoid=True``: of
    masks that overlap, it would learn which of them is the likeliest. Of one channel, and with a softmax, the numbers
    are MONAI's.

    Args:
        args, kwargs: as for ``DiceCELoss``; ``weight`` is the weight of the positives of each channel for a sigmoid.

    Shape:
        - input: (B, C, spatial axes …), logits
        - target: the same shape, or with ``to_onehot_y`` (B, 1, …)
        - output: scalar

    Example:
        >>> logits, masks = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
        >>> f"{DiceCE(sigmoid=True, lambda_dice=0)(logits, masks):.4f}"  # ln 2
        '0.6931'
    """

    def ce(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.bce(input, target) if self.dice.sigmoid else super().ce(input, target)
