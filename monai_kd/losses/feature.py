"""Losses between intermediate features of student and teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["FeatureLoss", "MultiScaleFusionLoss", "aligned_pairs", "pool_to"]

_ADAPTIVE_POOL: dict[int, Callable[..., torch.Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}


def pool_to(features: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Adaptive average pooling of (B, C, spatial axes …) to ``size``, for one to three spatial axes."""
    if tuple(features.shape[2:]) == tuple(size):
        return features
    return _ADAPTIVE_POOL[features.ndim - 2](features, tuple(size))


def aligned_pairs(
    student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pair the layers of both sides by name; where their sizes differ, the larger is pooled to the smaller.

    Raises:
        ValueError: the names differ, none is given, or the channels or axes of a pair differ.
    """
    if not student or set(student) != set(teacher):
        raise ValueError(
            f"student and teacher must be tapped under the same names: student has {sorted(student)}, teacher has "
            f"{sorted(teacher)}."
        )
    pairs = []
    for name, s in student.items():
        t = teacher[name]
        if s.ndim != t.ndim or not 3 <= s.ndim <= 5:
            raise ValueError(
                f"layer '{name}': student {tuple(s.shape)} and teacher {tuple(t.shape)} must be (B, C, spatial axes …) "
                "with the same one to three axes; tokens of a transformer, (B, N, C), are no such map."
            )
        if s.shape[1] != t.shape[1]:
            raise ValueError(
                f"layer '{name}': student has {s.shape[1]} channels, teacher {t.shape[1]}; give it a projection."
            )
        size = [min(a, b) for a, b in zip(s.shape[2:], t.shape[2:], strict=True)]
        pairs.append((pool_to(s, size), pool_to(t, size)))
    return pairs


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

    def forward(
        self, student_features: Mapping[str, torch.Tensor], teacher_features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        return torch.stack([F.mse_loss(s, t) for s, t in aligned_pairs(student_features, teacher_features)]).sum()


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

    def __init__(self, sizes: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ValueError(f"sizes must be positive and at least one, got {list(sizes)}.")
        self.sizes = tuple(int(size) for size in sizes)

    def forward(
        self, student_features: Mapping[str, torch.Tensor], teacher_features: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        pairs = aligned_pairs(student_features, teacher_features)
        return torch.stack(
            [
                F.mse_loss(pool_to(s, [size] * (s.ndim - 2)), pool_to(t, [size] * (t.ndim - 2)))
                for size in self.sizes
                for s, t in pairs
            ]
        ).sum() / len(self.sizes)
