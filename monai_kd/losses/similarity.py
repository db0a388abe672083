"""Distance of the similarities that a layer sees between the images of a batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from .pairs import check_layers

__all__ = ["SimilarityLoss"]


class SimilarityLoss(nn.Module):
    r"""Squared distance of the similarities of images, mean over their pairs, summed over the tapped layers.

    .. math:: G(F)_{ij} = \frac{\langle F_i, F_j \rangle}{\lVert (\langle F_i, F_k \rangle)_k \rVert_2}, \qquad
        \sum_l \frac{1}{B^2} \lVert G(F_s^l) - G(F_t^l) \rVert_2^2

    after Tung and Mori 2019, https://arxiv.org/abs/1907.09682, with the features of an image as one vector. The two
    sides may differ in channels, sizes and axes, so that no projection is needed: embeddings (B, C), tokens (B, N, C)
    and feature maps can be compared with each other. A batch of one image has no pairs and gives 0; of several
    processes, each compares the images of its own batch.

    Shape:
        - student features, teacher features: layer name to (B, any axes …)
        - output: scalar

    Raises:
        ValueError: the layers of the two sides or their numbers of images differ.

    Example:
        >>> f = torch.randn(4, 8)
        >>> float(SimilarityLoss()({"e": f}, {"e": 3 * f}).round(decimals=6))
        0.0
    """

    inputs = ("student_taps", "teacher_taps")

    def forward(self, student: Mapping[str, torch.Tensor], teacher: Mapping[str, torch.Tensor]) -> torch.Tensor:
        check_layers(student, teacher)
        losses = []
        for name, of_student in student.items():
            check_images(name, of_student, teacher[name])
            losses.append(F.mse_loss(_similarities(of_student), _similarities(teacher[name])))
        return torch.stack(losses).sum()


def check_images(layer: str, student: torch.Tensor, teacher: torch.Tensor) -> None:
    """Check that two tapped outputs have an item for each image.

    Raises:
        ValueError: their numbers differ.
    """
    if len(student) != len(teacher):
        raise ValueError(
            f"layer '{layer}': {len(student)} images of the student and {len(teacher)} of the teacher; tap modules "
            "whose outputs have an item for each image, (B, …)."
        )


def _similarities(features: torch.Tensor) -> torch.Tensor:
    """(B, …) to (B, B), each row of length 1."""
    # A sum over all positions is beyond the range of float16.
    flat = features.flatten(1).float()
    with torch.autocast(flat.device.type, enabled=False):
        return F.normalize(flat @ flat.T, dim=1)
