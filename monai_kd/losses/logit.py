"""Losses between the logits of student and teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .probability import activation_of, check_activation, check_temperature, divergence, full_precision, same_shape

__all__ = ["LogitKL", "LogitMSE"]


class LogitKL(nn.Module):
    r"""Kullback–Leibler divergence between softened predictions, Hinton et al. 2015, https://arxiv.org/abs/1503.02531.

    .. math:: T^2 \; \mathrm{KL}(p_{t} \,\|\, p_{s})

    Softmax: :math:`p = \mathrm{softmax}(z / T)`, summed over the classes (axis 1). Sigmoid: each channel is one
    probability σ(z/T) a position, with the two-class (Bernoulli) divergence, averaged over the channels. Both are
    averaged over the batch and, for dense maps, over the positions, so that the value depends on neither the image
    size nor the batch size.

    Args:
        temperature: T > 0.
        activation: "softmax" where the channels are the classes of one prediction, "sigmoid" where each is a mask of
            its own. The shape does not distinguish them: with three sigmoid channels that differ by a constant, the
            softmax form is 0. ``None`` serves one channel, which is a sigmoid.

    Shape:
        - student, teacher: (B, C) or (B, C, spatial axes …), logits
        - output: scalar

    Raises:
        ValueError: ``temperature`` is not positive, the shapes differ, there are several channels and no
            ``activation``, or one channel and "softmax".

    Example:
        >>> LogitKL(temperature=4.0, activation="softmax")(torch.zeros(2, 3), torch.zeros(2, 3))
        tensor(0.)
    """

    inputs = ("student", "teacher")

    def __init__(self, temperature: float = 4.0, activation: str | None = None) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.activation = check_activation(activation)

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return divergence(student, teacher, self.temperature, self.activation).mean() * self.temperature**2


class LogitMSE(nn.Module):
    r"""Mean squared difference of logits, times T².

    .. math:: T^2 \; \mathrm{mean}\,(z_s - z_t)^2

    The output term of the *basic* recipe. T only scales it: the logits themselves are not divided by T. A softmax is
    invariant to a constant added to all classes of a position: there, :math:`z - \mathrm{mean}_c z` is compared.

    Args:
        temperature: T > 0.
        activation: "sigmoid" or "softmax", as for `LogitKL`; ``None`` serves one channel.

    Shape:
        - student, teacher: (B, C, …), logits
        - output: scalar

    Raises:
        ValueError: as for `LogitKL`.

    Example:
        >>> LogitMSE(temperature=2.0)(torch.ones(1, 1), torch.zeros(1, 1))
        tensor(4.)
    """

    inputs = ("student", "teacher")

    def __init__(self, temperature: float = 1.0, activation: str | None = None) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.activation = check_activation(activation)

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        same_shape(student, teacher)
        s, t = full_precision(student), full_precision(teacher)
        if activation_of(student, self.activation) == "softmax":
            s, t = s - s.mean(dim=1, keepdim=True), t - t.mean(dim=1, keepdim=True)
        return F.mse_loss(s, t) * self.temperature**2
