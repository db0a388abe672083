"""Losses between intermediate features of student and teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .pairs import aligned_pairs, pool_to
from .probability import full_precision

__all__ = ["FeatureLoss", "MultiScaleFusionLoss"]


class FeatureLoss(nn.Module):
    r"""Squared distance of features, summed over the tapped layers.

    .. math:: \sum_l \mathrm{mean}\,(F_s^l - F_t^l)^2

    of features with equal channels, see `Projections`.

    Shape:
        - student_features, teacher_features: layer name to (B, C, spatial axes …)
        - output: scalar

    Raises:
        ValueError: the layers or channels of the two sides differ.

    Example:
        >>> f = {"d1": torch.ones(1, 2, 4, 4)}
        >>> FeatureLoss()(f, f)
        tensor(0.)
    """

    inputs = ("student_features", "teacher_features")
    takes_half = True

    def forward(
        self, student_features: Mapping[str, torch.Tensor], teacher_features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return torch.stack([pair.mean_square for pair in aligned_pairs(student_features, teacher_features)]).sum()


class MultiScaleFusionLoss(nn.Module):
    r"""Squared distance of features pooled to several common sizes.

    .. math:: \frac{1}{|S|} \sum_{k \in S} \sum_l \mathrm{mean}\,(\mathrm{pool}_k(F_s^l) - \mathrm{pool}_k(F_t^l))^2

    Args:
        sizes: sides k of the adaptive average pooling; 1 is the global mean.

    Shape:
        - student_features, teacher_features: layer name to (B, C, spatial axes …)
        - output: scalar

    Raises:
        ValueError: ``sizes`` is empty or holds a number below 1; the layers or channels of the two sides differ.

    Example:
        >>> f = {"d1": torch.ones(1, 2, 4, 4)}
        >>> MultiScaleFusionLoss(sizes=[1, 2])(f, f)
        tensor(0.)
    """

    inputs = ("student_features", "teacher_features")
    takes_half = True

    def __init__(self, sizes: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes must be positive and at least one, got {list(sizes)}.")
        self.sizes = tuple(int(size) for size in sizes)

    def feature_size(self, student: Sequence[int], teacher: Sequence[int]) -> tuple[int, ...]:
        """The largest of ``sizes`` if the smaller maps can be pooled from it without an error, for sides of features.

        Example:
            >>> loss = MultiScaleFusionLoss([1, 2, 4])
            >>> loss.feature_size((64, 64), (64, 64)), loss.feature_size((30, 30), (30, 30))
            ((4, 4), (30, 30))
        """
        smaller, largest = tuple(map(min, student, teacher)), max(self.sizes)
        nested = all(largest % size == 0 for size in self.sizes) and all(side % largest == 0 for side in smaller)
        return (largest,) * len(smaller) if nested else smaller

    def forward(
        self, student_features: Mapping[str, torch.Tensor], teacher_features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        pairs = aligned_pairs(student_features, teacher_features)
        distances = []
        for size in self.sizes:
            for pair in pairs:
                shape = [size] * (pair.student.ndim - 2)
                s, t = (full_precision(pool_to(each, shape)) for each in (pair.student, pair.teacher))
                distances.append(F.mse_loss(s, t))
        return torch.stack(distances).sum() / len(self.sizes)
