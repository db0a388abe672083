"""Distance between the edges of a predicted mask and those of the label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["EdgeLoss", "sobel_magnitude"]

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def sobel_magnitude(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    r"""Gradient magnitude by Sobel filters.

    .. math:: E(X) = \sqrt{\sum_a (S_a * X)^2 + \varepsilon}

    over the spatial axes a; S_a is [-1, 0, 1] along a and [1, 2, 1] along each other axis. The border is replicated,
    or else the edge of the image would be an edge of the mask.

    Args:
        x: (B, C, spatial axes …), one to three of them.

    Returns:
        the same shape; √ε where ``x`` is constant.
    """
    axes = x.ndim - 2
    derivative, smooth = x.new_tensor([-1.0, 0.0, 1.0]), x.new_tensor([1.0, 2.0, 1.0])
    flat = x.reshape(-1, 1, *x.shape[2:])
    padded = F.pad(flat, [1, 1] * axes, mode="replicate")
    squares = torch.zeros_like(flat)
    for along in range(axes):
        kernel = x.new_ones([1] * (axes + 2))
        for axis in range(axes):
            line = derivative if axis == along else smooth
            kernel = kernel * line.reshape([3 if i == axis + 2 else 1 for i in range(axes + 2)])
        squares = squares + _CONV[axes](padded, kernel).pow(2)
    return (squares + eps).sqrt().reshape(x.shape)


class EdgeLoss(nn.Module):
    r"""Mean absolute difference between the edges of the predicted probabilities and of the label.

    .. math:: \mathrm{mean}\,| E(\sigma(z_s)) - E(Y) |

    with E as in `sobel_magnitude`: on probabilities, not on logits, whose scale is free.

    Args:
        eps: ε under the root; its gradient is finite there.

    Shape:
        - student: (B, 1, spatial axes …), logits
        - label: the same shape, 0 or 1
        - output: scalar

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> y = torch.zeros(1, 1, 8, 8); y[..., 2:6, 2:6] = 1
        >>> float(EdgeLoss()(1000 * (y - 0.5), y))
        0.0
    """

    inputs = ("student", "label")

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = float(eps)

    def forward(self, student: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        if student.shape != label.shape:
            raise ValueError(f"student logits {tuple(student.shape)} and label {tuple(label.shape)} differ.")
        predicted = sobel_magnitude(torch.sigmoid(student), self.eps)
        return F.l1_loss(predicted, sobel_magnitude(label.to(predicted), self.eps))
