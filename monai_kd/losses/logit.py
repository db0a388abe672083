"""Losses between the logits of student and teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["LogitKL", "LogitMSE"]


def _same_shape(student: torch.Tensor, teacher: torch.Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(f"student logits {tuple(student.shape)} and teacher logits {tuple(teacher.shape)} differ.")


class LogitKL(nn.Module):
    r"""Kullback–Leibler divergence between softened predictions, Hinton et al. 2015, https://arxiv.org/abs/1503.02531.

    .. math:: T^2 \; \mathrm{KL}(p_{t} \,\|\, p_{s}), \qquad p = \mathrm{softmax}(z / T)

    summed over the classes (axis 1), averaged over the batch and, for dense maps, over the positions, so that the
    value depends on neither the image size nor the batch size. One channel means one probability σ(z/T) a position:
    the two-class (Bernoulli) divergence is used, because a softmax over one channel is 1 everywhere.

    Args:
        temperature: T > 0.

    Shape:
        - student, teacher: (B, C) or (B, C, spatial axes …), logits
        - output: scalar

    Raises:
        ValueError: ``temperature`` is not positive, or the shapes differ.

    Example:
        >>> LogitKL(temperature=4.0)(torch.zeros(2, 3), torch.zeros(2, 3))
        tensor(0.)
    """

    inputs = ("student", "teacher")

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.temperature = float(temperature)

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        _same_shape(student, teacher)
        s, t = student / self.temperature, teacher / self.temperature
        if student.shape[1] == 1:
            # σ(z) and σ(-z) are the two classes; the log-sigmoids stay finite for logits of any size.
            s, t = torch.cat([s, -s], dim=1), torch.cat([t, -t], dim=1)
            log_s, log_t = F.logsigmoid(s), F.logsigmoid(t)
        else:
            log_s, log_t = F.log_softmax(s, dim=1), F.log_softmax(t, dim=1)
        divergence = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(dim=1)
        return divergence.mean() * self.temperature**2


class LogitMSE(nn.Module):
    r"""Mean squared difference of logits, times T².

    .. math:: T^2 \; \mathrm{mean}\,(z_s - z_t)^2

    The output term of the *basic* recipe. T only scales it: the logits themselves are not divided by T.

    Args:
        temperature: T > 0.

    Shape:
        - student, teacher: (B, C, …), logits
        - output: scalar

    Raises:
        ValueError: ``temperature`` is not positive, or the shapes differ.

    Example:
        >>> LogitMSE(temperature=2.0)(torch.ones(1, 1), torch.zeros(1, 1))
        tensor(4.)
    """

    inputs = ("student", "teacher")

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}.")
        self.temperature = float(temperature)

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        _same_shape(student, teacher)
        return F.mse_loss(student, teacher) * self.temperature**2
