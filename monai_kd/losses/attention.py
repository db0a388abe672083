"""Distance of spatial attention maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .pairs import aligned_pairs, check_layers, pool_to

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
        projected: whether the features are projected to the same channels first, as KD++ has it; the larger map is
            pooled. A projection is trained by this term too, and takes over part of what the student would learn.
            ``False``: the features as tapped, as in the paper; no layer needs the channels of the other side, and the
            larger map of energies is pooled.

    Shape:
        - student features, teacher features: layer name to (B, C, spatial axes …)
        - output: scalar

    Raises:
        ValueError: the layers of the two sides or their axes differ, or, of projected features, their channels.

    Example:
        >>> f = {"d1": torch.ones(1, 2, 4, 4)}
        >>> AttentionLoss()(f, f)
        tensor(0.)
        >>> float(AttentionLoss(projected=False)(f, {"d1": torch.ones(1, 5, 8, 8)})) < 1e-9
        True
    """

    takes_half = True

    def __init__(self, eps: float = 1e-6, projected: bool = True) -> None:
        super().__init__()
        self.eps, self.projected = float(eps), bool(projected)
        kind = "features" if projected else "taps"
        self.inputs = (f"student_{kind}", f"teacher_{kind}")
        self.needs_energies = self.projected

    def feature_size(self, student: Sequence[int], teacher: Sequence[int]) -> Sequence[int]:
        """See `DistillationLoss.feature_sizes`; energies are no linear function of features."""
        return tuple(map(min, student, teacher)) if self.projected else teacher

    def forward(
        self, student_features: Mapping[str, torch.Tensor], teacher_features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        if self.projected:
            energies = [pair.energies for pair in aligned_pairs(student_features, teacher_features)]
        else:
            energies = _energies_as_tapped(student_features, teacher_features)
        maps = ([attention_map(side, self.eps) for side in pair] for pair in energies)
        return torch.stack([F.mse_loss(student, teacher) for student, teacher in maps]).sum()


def _energies_as_tapped(
    student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each layer, the larger map pooled to the smaller, (B, spatial axes …)."""
    check_layers(student, teacher)
    pairs = []
    for name, of_student in student.items():
        of_teacher = teacher[name]
        if of_student.ndim != of_teacher.ndim or not 3 <= of_student.ndim <= 5:
            raise ValueError(
                f"layer '{name}': student {tuple(of_student.shape)} and teacher {tuple(of_teacher.shape)} must be "
                "(B, C, spatial axes …) with the same one to three axes, to be maps of attention."
            )
        sides = [each.float().square().sum(dim=1, keepdim=True) for each in (of_student, of_teacher)]
        size = [min(both) for both in zip(*(each.shape[2:] for each in sides), strict=True)]
        pooled = [pool_to(each, size).squeeze(1) for each in sides]
        pairs.append((pooled[0], pooled[1]))
    return pairs
