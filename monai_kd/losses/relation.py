"""Distance of the relations that a layer sees between the images of a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from .pairs import check_layers
from .similarity import check_images

__all__ = ["RelationLoss"]

_PAIR, _TRIPLE = 2, 3


class RelationLoss(nn.Module):
    r"""Distances and angles between the features of images, compared by the Huber loss (RKD), summed over the layers.

    .. math:: d_{ij} = \frac{\lVert F_i - F_j \rVert_2}{μ}, \quad
        a_{ijk} = \Big\langle \frac{F_i - F_j}{\lVert F_i - F_j \rVert_2},
        \frac{F_k - F_j}{\lVert F_k - F_j \rVert_2} \Big\rangle, \quad
        \mathcal{L} = \sum_l λ_d \, \overline{h(d^l_s - d^l_t)} + λ_a \, \overline{h(a^l_s - a^l_t)}

    with μ the mean of all distances between different images, and h the Huber loss, ½ x² for |x| ≤ 1, else |x| − ½. The
    first mean is over all pairs of different images, the second over all triples. After Park et al. 2019,
    https://arxiv.org/abs/1904.05068, with the features of an image as one vector. The two sides may differ in channels,
    sizes and axes, so that no projection is needed. Of one image there are no pairs, of two no triples, and the mean is
    0; of several processes, each compares the images of its own batch.

    Args:
        distance, angle: λ_d and λ_a. In the paper, the latter is twice the former.

    Shape:
        - student features, teacher features: layer name to (B, any axes …)
        - output: scalar

    Raises:
        ValueError: a weight is not a number of 0 or more, or both are 0; or, when called, the layers of the two sides,
            or their numbers of images, differ.

    Example:
        >>> f = torch.randn(4, 8)
        >>> float(RelationLoss()({"e": f}, {"e": 3 * f + 1}).round(decimals=6))
        0.0
    """

    inputs = ("student_taps", "teacher_taps")

    def __init__(self, distance: float = 1.0, angle: float = 2.0) -> None:
        super().__init__()
        self.distance, self.angle = float(distance), float(angle)
        weights = (self.distance, self.angle)
        if not all(math.isfinite(each) and each >= 0 for each in weights) or not any(weights):
            raise ValueError(f"distance and angle must be numbers of 0 or more, not both 0, got {distance}, {angle}.")

    def forward(self, student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor]) -> torch.Tensor:
        check_layers(student, teacher)
        losses = []
        for name, of_student in student.items():
            check_images(name, of_student, teacher[name])
            (distances, angles), (of_teacher, its_angles) = _relations(of_student), _relations(teacher[name])
            images = len(of_student)
            # A relation of an image to itself is 0 on both sides, so that the sum is that over different images.
            loss = of_student.new_zeros((), dtype=distances.dtype)
            if self.distance and images >= _PAIR:
                pairs = images * (images - 1)
                loss = loss + self.distance * F.smooth_l1_loss(distances, of_teacher, reduction="sum") / pairs
            if self.angle and images >= _TRIPLE:
                triples = images * (images - 1) * (images - 2)
                loss = loss + self.angle * F.smooth_l1_loss(angles, its_angles, reduction="sum") / triples
            losses.append(loss)
        return torch.stack(losses).sum()


def _relations(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, …) to the distances (B, B) and the angles at the image of the second axis, (B, B, B)."""
    flat = features.flatten(1)
    flat = flat if flat.dtype == torch.float64 else flat.float()
    with torch.autocast(flat.device.type, enabled=False):
        # Relations do not depend on the mean, which would cost digits.
        flat = flat - flat.mean(dim=0)
        products = flat @ flat.T
        squares = products.diagonal()
        # <F_i - F_j, F_k - F_j>, by products alone: the differences of maps would take B times their memory.
        inner = products[:, None] - products[:, :, None] - products[None] + squares[None, :, None]
        apart = ~torch.eye(len(flat), dtype=torch.bool, device=flat.device)
        smallest = torch.finfo(flat.dtype).tiny
        lengths = inner.diagonal(dim1=0, dim2=2).T.clamp(min=smallest).sqrt() * apart
        mean = lengths.sum() / apart.sum().clamp(min=1)
        both = (lengths[:, :, None] * lengths.T[None]).clamp(min=smallest)
        distinct = apart[:, :, None] & apart[None] & apart[:, None]
        return lengths / mean.clamp(min=smallest), inner / both * distinct
