"""Correlation of the predictions of student and teacher."""

from __future__ import annotations

import math

import torch
from torch import nn

from .probability import activated, activation_of, check_activation, check_temperature, full_precision, same_shape

__all__ = ["CorrelationLoss"]


class CorrelationLoss(nn.Module):
    r"""DIST: one minus the Pearson correlation of predictions, along classes and along positions.

    .. math::
        \tau^2 \Big( \beta \big(1 - \mathrm{mean}_{i}\, \rho(Y^s_{i,:}, Y^t_{i,:})\big)
        + \gamma \big(1 - \mathrm{mean}_{c}\, \rho(Y^s_{:,c}, Y^t_{:,c})\big) \Big),
        \qquad Y = \mathrm{softmax}(z / \tau)

    after Huang et al. 2022, https://arxiv.org/abs/2205.10536, with the factor τ² of the authors' code for
    classification. ρ is invariant to scale, so a large τ does not shrink the gradient, and the factor τ² increases it:
    with τ ≠ 1, tune the weight of the term again.

    Rows (β): the classes of one position, or of one image for (B, C) logits. Columns (γ): one class over the positions
    of one image, then the mean over images as well; over the batch for (B, C) logits. The authors' code for
    segmentation correlates over the positions of the whole batch.

    Two classes: the two probabilities of a row add up to 1, so ρ is ±1 and has no gradient. The row term contributes to
    the value only. Sigmoid: the channels are independent masks and a row is no distribution, so only the column term is
    used.

    Where the teacher is constant (standard deviation below ``eps``), as in a slice without tumour, there is no
    correlation; such rows and columns are left out of the means. Without any, the value is 0.

    Args:
        beta: β ≥ 0, weight of the rows.
        gamma: γ ≥ 0, weight of the columns.
        temperature: τ > 0; 1 is the paper's for ImageNet, 4 for CIFAR-100.
        activation: "sigmoid" or "softmax", as for `LogitKL`; ``None`` serves one channel.
        eps: lower bound of the standard deviations in the denominator, in units of probability.

    Shape:
        - student, teacher: (B, C) or (B, C, spatial axes …), logits
        - output: scalar

    Raises:
        ValueError: ``beta``, ``gamma`` or ``temperature`` is out of range, the shapes differ, there are several
            channels and no ``activation``, or one channel and "softmax".

    Example:
        >>> z = torch.tensor([[[-2.0, 0.0, 2.0]]])
        >>> round(float(CorrelationLoss()(-z, z)), 4)  # ρ is -1
        2.0
    """

    inputs = ("student", "teacher")

    def __init__(
        self,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 1.0,
        activation: str | None = None,
        eps: float = 1e-4,
    ) -> None:
        super().__init__()
        if not (0 <= beta < math.inf and 0 <= gamma < math.inf and beta + gamma > 0):
            raise ValueError(f"beta and gamma must not be negative nor both 0, got {beta} and {gamma}.")
        self.beta, self.gamma = float(beta), float(gamma)
        self.temperature = check_temperature(temperature)
        self.activation = check_activation(activation)
        self.eps = float(eps)

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        same_shape(student, teacher)
        activation = activation_of(student, self.activation)
        s, t = (activated(full_precision(each) / self.temperature, activation) for each in (student, teacher))
        over = 0 if s.ndim == 2 else -1
        loss = self.gamma * _distance(s.flatten(2) if over else s, t.flatten(2) if over else t, over, self.eps)
        if activation == "softmax" and self.beta > 0:
            # For two classes the gradient would be that of rounding errors and of eps alone.
            rows = s.detach() if s.shape[1] == 2 else s
            loss = loss + self.beta * _distance(rows, t, 1, self.eps)
        return loss * self.temperature**2


def _distance(student: torch.Tensor, teacher: torch.Tensor, dim: int, eps: float) -> torch.Tensor:
    """1 − ρ along ``dim``, mean over the rest, where the teacher varies."""
    s, t = student - student.mean(dim, keepdim=True), teacher - teacher.mean(dim, keepdim=True)
    variance_s, variance_t = s.square().mean(dim), t.square().mean(dim)
    # Clamped before the square root, whose derivative at 0 is infinite.
    scale = variance_s.clamp(min=eps**2).sqrt() * variance_t.clamp(min=eps**2).sqrt()
    varies = variance_t > eps**2
    distance = (1 - (s * t).mean(dim) / scale) * varies
    return distance.sum() / varies.sum().clamp(min=1)
