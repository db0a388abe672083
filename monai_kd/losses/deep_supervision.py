"""A supervised loss on every head of a network."""

from __future__ import annotations

from monai.losses import DeepSupervisionLoss

__all__ = ["DeepSupervision"]


class DeepSupervision(DeepSupervisionLoss):
    r"""MONAI's ``DeepSupervisionLoss`` as a term of a `DistillationLoss`; it takes all heads, other terms the main one.

    .. math:: \sum_h w_h \, \mathcal{L}(z_h, y_h)

    over the heads h, the main one first; y_h is the label, resized by nearest neighbour where a head is smaller. The
    weights halve from head to head (``weight_mode="exp"``), as in nnU-Net. A network without deep supervision has one
    head, and the value is that of ``loss``.

    Args:
        loss: of (logits, label), such as ``monai.losses.DiceCELoss``.
        weight_mode: ``"exp"``: 1, 1/2, 1/4 …; ``"two"``: 1, 1/2, 1/2 …; ``"same"``: 1, 1, 1 ….
        weights: of the heads, in place of ``weight_mode``.

    Shape:
        - student_heads: list of (B, C, spatial axes …), main first
        - label: (B, 1 or C, spatial axes …)
        - output: scalar

    Example:
        >>> import torch
        >>> heads = [torch.ones(1, 1, 4, 4), torch.ones(1, 1, 2, 2)]
        >>> DeepSupervision(torch.nn.MSELoss())(heads, torch.zeros(1, 1, 4, 4))
        tensor(1.5000)
    """

    inputs = ("student_heads", "label")
