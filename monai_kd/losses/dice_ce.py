"""Dice and cross-entropy, also of masks that overlap."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss

__all__ = ["DiceCE"]


class DiceCE(DiceCELoss):
    r"""MONAI's ``DiceCELoss``, whose cross-entropy is binary wherever its activation is a sigmoid.

    .. math:: \mathcal{L} = \lambda_{Dice} \, \mathrm{Dice} + \lambda_{CE} \, \mathrm{CE}

    MONAI takes the cross-entropy of a softmax as soon as there are several channels, also with ``sigmoid=True``: of
    masks that overlap, it would learn which of them is the likeliest. Of one channel, and with a softmax, the numbers
    are MONAI's.

    Slices without a tumour: with ε = ``smooth_nr`` = ``smooth_dr`` = 1e-5, the Dice term of such a slice is
    1 − ε / (Σp + ε), which is 1 with hardly any gradient unless nearly all p are below ε: only the cross-entropy lowers
    what is marked. With ``batch=True``, sums are over all slices of the batch, as in nnU-Net for slices, so that false
    marks on slices without a tumour lower the Dice of the batch; in a batch without any tumour, again the cross-entropy
    alone remains.

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
        if not self.dice.sigmoid:
            return super().ce(input, target)
        binary = self.binary_cross_entropy
        # As it stands, torch would take the weights for those of the last axis of the image.
        weight = None if binary.pos_weight is None else binary.pos_weight.reshape(-1, *[1] * (input.ndim - 2))
        return F.binary_cross_entropy_with_logits(
            input, target.to(input.dtype), pos_weight=weight, reduction=binary.reduction
        )
