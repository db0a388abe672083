"""Distance of spatial attention maps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from .pairs import aligned_pairs

__all__ = ["AttentionLoss", "attention_map"]


def attention_map(energy: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    r"""Energy of a layer at each position, relative to its mean energy.

    .. math:: A(F) = \frac{\sum_c F_c^2}{\mathrm{mean}_{pixels} \sum_c F_c^2 + \varepsilon}

    Args:
        energy: Σ_c F_c², (B, spatial axes …).

    Returns:
        (B, spatial axes …), with mean 1 over the positions of each image.
    """
    return energy / (energy.mean(dim=tuple(range(1, energy.ndim)), keepdim=True) + eps)


class AttentionLoss(nn.Module):
    r"""Squared distance of attention maps, mean per pixel, summed over the tapped layers.

    .. math:: \sum_l \mathrm{mean}\,(A(F_s^l) - A(F_t^l))^2

    after Zagoruyko and Komodakis 2017, https://arxiv.org/abs/1612.03928, with the mean in place of the norm.

    Args:
        eps: ε of `attention_map`, in squared feature units.

    Shape:
        - student_features, teacher_features: layer name to (B, C, spatial axes …)
        - output: scalar

    Raises:
        ValueError: the layers or channels of the two sides differ.

    Example:
        >>> f = {"d1": torch.ones(1, 2, 4, 4)}
        >>> AttentionLoss()(f, f)
        tensor(0.)
    """

    inputs = ("student_features", "teacher_features")
    takes_half = needs_energies = True

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = float(eps)

    def forward(
        self, student_features: Mapping[str, torch.Tensor], teacher_features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        losses = []
        for pair in aligned_pairs(student_features, teacher_features):
            student, teacher = (attention_map(energy, self.eps) for energy in pair.energies)
            losses.append(F.mse_loss(student, teacher))
        return torch.stack(losses).sum()
