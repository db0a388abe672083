"""The activation of logits, and the divergence of two predictions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

__all__ = [
    "activated",
    "activation_of",
    "check_activation",
    "check_temperature",
    "divergence",
    "full_precision",
    "same_shape",
]


def check_activation(activation: str | None) -> str | None:
    """Return the argument ``activation`` of a loss term.

    Raises:
        ValueError: it is neither "sigmoid" nor "softmax" nor ``None``.
    """
    if activation not in (None, "sigmoid", "softmax"):
        raise ValueError(f"activation must be 'sigmoid' or 'softmax', got {activation!r}.")
    return activation


def check_temperature(temperature: float) -> float:
    """Return the temperature as a float.

    Raises:
        ValueError: it is not positive and finite.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive, got {temperature}.")
    return float(temperature)


def same_shape(student: torch.Tensor, teacher: torch.Tensor) -> None:
    """Check that logits have the same shape, as others might be broadcast.

    Raises:
        ValueError: the shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"student logits {tuple(student.shape)} and teacher logits {tuple(teacher.shape)} differ.")


def activation_of(logits: torch.Tensor, activation: str | None) -> str:
    """The activation of logits (B, C, …): as given, or sigmoid for one channel.

    Raises:
        ValueError: there are several channels and no activation is given, or one channel and softmax.
    """
    channels = logits.shape[1]
    if activation is None and channels > 1:
        raise ValueError(
            f"logits {tuple(logits.shape)} have {channels} channels: set `activation` of the loss term to 'softmax' "
            "(the channels are the classes of each position) or 'sigmoid' (each channel is a mask of its own)."
        )
    if activation == "softmax" and channels == 1:
        raise ValueError(
            f"logits {tuple(logits.shape)} have one channel, whose softmax is 1 everywhere: set `activation` of the "
            "loss term to 'sigmoid', or let the networks return one channel for each class."
        )
    return activation or "sigmoid"


def activated(logits: torch.Tensor, activation: str) -> torch.Tensor:
    """The probabilities of logits (B, C, …), by an activation as `activation_of` returns it."""
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(dim=1)


def full_precision(x: torch.Tensor) -> torch.Tensor:
    """Convert half precision to float32, for sums over many positions; other types are unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def divergence(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, activation: str | None
) -> torch.Tensor:
    r"""KL divergence of softened predictions at each position, without the factor T².

    .. math:: \sum_c p_{t,c} \log (p_{t,c} / p_{s,c}), \qquad p = \mathrm{softmax}(z / T)

    and for a sigmoid, in each channel, the same over the two classes :math:`(\sigma(z/T), \sigma(-z/T))`.

    Args:
        student, teacher: (B, C) or (B, C, spatial axes …), logits.
        temperature: T.
        activation: "sigmoid", "softmax" or, for one channel, ``None``.

    Returns:
        (B, C, …) for a sigmoid, (B, 1, …) for a softmax; float32 for logits of half precision.

    Raises:
        ValueError: the shapes differ, or the activation does not fit the channels.
    """
    same_shape(student, teacher)
    activation = activation_of(student, activation)
    s, t = full_precision(student) / temperature, full_precision(teacher) / temperature
    if activation == "sigmoid":
        # σ(z) and σ(-z) are the two classes; the log-sigmoids stay finite for logits of any size.
        log_s, log_t = F.logsigmoid(torch.stack([s, -s])), F.logsigmoid(torch.stack([t, -t]))
        return F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(dim=0)
    log_s, log_t = F.log_softmax(s, dim=1), F.log_softmax(t, dim=1)
    return F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(dim=1, keepdim=True)
