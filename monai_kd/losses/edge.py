"""Distance between the edges of a predicted mask and those of the label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .probability import activation_of, check_activation, full_precision
from .target import target_masks

__all__ = ["EdgeLoss", "sobel_magnitude"]


def sobel_magnitude(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    r"""Gradient magnitude by Sobel filters.

    .. math:: E(X) = \sqrt{\sum_a (S_a * X)^2 + \varepsilon}

    over the spatial axes a; S_a is [-1, 0, 1] along a and [1, 2, 1] along each other axis. The image is padded by
    replication, so that its border does not count as an edge of the mask.

    Args:
        x: (B, C, spatial axes …), one to three of them.

    Returns:
        the same shape; √ε where ``x`` is constant.
    """
    axes = x.ndim - 2
    padded = F.pad(x.reshape(-1, 1, *x.shape[2:]), [1, 1] * axes, mode="replicate")
    squares = torch.zeros((), dtype=x.dtype, device=x.device)
    for along in range(axes):
        found = padded
        # Sums of shifted views: convolutions with one channel are slow on CPUs.
        for axis in range(axes):
            before, here, after = (found.narrow(axis + 2, start, found.shape[axis + 2] - 2) for start in range(3))
            found = after - before if axis == along else before + 2 * here + after
        squares = squares + found.square()
    return (squares + eps).sqrt().reshape(x.shape)


class EdgeLoss(nn.Module):
    r"""Mean absolute difference between the edges of the predicted probabilities and of the label.

    .. math:: \mathrm{mean}\,| E(p_s) - E(Y) |, \qquad p = \sigma(z) \text{ or } \mathrm{softmax}(z)

    with E as in `sobel_magnitude`: on probabilities, not on logits, whose scale is arbitrary.

    Args:
        eps: ε under the square root, which keeps its gradient finite.
        activation: "sigmoid" or "softmax", as for `LogitKL`; ``None`` serves one channel.
        include_background: whether class 0 of a softmax is included, whose edges are those of the other classes. With a
            sigmoid every channel is a mask, and all are included.

    Shape:
        - student: (B, C, spatial axes …), logits
        - label: the same shape, 0 or 1; for a softmax also (B, 1, …), the class of each position
        - output: scalar

    Raises:
        ValueError: the shapes differ, a class is not one of the channels, there are several channels and no
            ``activation``, or one channel and "softmax".

    Example:
        >>> y = torch.zeros(1, 1, 8, 8); y[..., 2:6, 2:6] = 1
        >>> float(EdgeLoss()(1000 * (y - 0.5), y))
        0.0
    """

    inputs = ("student", "label")

    def __init__(self, eps: float = 1e-6, activation: str | None = None, include_background: bool = False) -> None:
        super().__init__()
        self.eps = float(eps)
        self.activation = check_activation(activation)
        self.include_background = bool(include_background)

    def forward(self, student: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        activation = activation_of(student, self.activation)
        masks = target_masks(label, student, activation)
        student = full_precision(student)
        if activation == "sigmoid":
            predicted = torch.sigmoid(student)
        else:
            first = 0 if self.include_background else 1
            predicted, masks = student.softmax(dim=1)[:, first:], masks[:, first:]
        return F.l1_loss(sobel_magnitude(predicted, self.eps), sobel_magnitude(masks, self.eps))
