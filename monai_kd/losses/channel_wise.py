"""Channel-wise distillation: divergence of the spatial distributions of each channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .probability import check_temperature, full_precision, same_shape

__all__ = ["ChannelWiseKL", "channel_divergence"]


def channel_divergence(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, keep: torch.Tensor | None = None
) -> torch.Tensor:
    r"""KL divergence of softmaxes over the positions, mean over images and channels, without the factor T².

    Args:
        student, teacher: (B, C, spatial axes …), logits.
        temperature: T.
        keep: the same shape, boolean: the positions over which the softmax runs; ``None`` for all. A channel of an
            image without such positions is left out; if there are none at all, the value is 0.

    Returns:
        scalar.

    Raises:
        ValueError: the shapes differ, or there are no positions.
    """
    same_shape(student, teacher)
    if student.ndim < 3:
        raise ValueError(f"logits {tuple(student.shape)} have no positions: (B, C, spatial axes …) are needed.")
    s, t = full_precision(student).flatten(2) / temperature, full_precision(teacher).flatten(2) / temperature
    if keep is None:
        s, t = s.flatten(0, 1), t.flatten(0, 1)
    else:
        keep = keep.flatten(2)
        some = keep.any(dim=-1)
        # Not -inf, because the difference of two is NaN; the exponential of this value is 0, too.
        lowest = torch.finfo(s.dtype).min / 2
        s, t = s[some].masked_fill(~keep[some], lowest), t[some].masked_fill(~keep[some], lowest)
    log_s, log_t = F.log_softmax(s, dim=-1), F.log_softmax(t, dim=-1)
    return F.kl_div(log_s, log_t, reduction="none", log_target=True).sum() / max(len(s), 1)


class ChannelWiseKL(nn.Module):
    r"""Channel-wise distillation: KL divergence of softmaxes over the positions of each channel.

    .. math::
        \frac{T^2}{N C} \sum_{n,c} \sum_i \varphi(t)_{n,c,i} \log \frac{\varphi(t)_{n,c,i}}{\varphi(s)_{n,c,i}},
        \qquad \varphi(y)_{c,i} = \frac{\exp(y_{c,i}/T)}{\sum_j \exp(y_{c,j}/T)}

    after Shu et al. 2021, https://arxiv.org/abs/2011.13256, for N images and C channels. φ sums to 1 over the positions
    i of one channel: the value is not divided by their number, and does not depend on the size of the image.

    It is the same for sigmoid and softmax outputs, and works for one channel. A constant added to all logits of a
    channel does not change it: it compares where a channel is active, not how probable it is, so it should be combined
    with a term on probabilities.

    Args:
        temperature: T > 0.

    Shape:
        - student, teacher: (B, C, spatial axes …), logits
        - output: scalar

    Raises:
        ValueError: ``temperature`` is not positive, the shapes differ, or there are no spatial axes.

    Example:
        >>> t = torch.randn(2, 1, 4, 4)
        >>> float(ChannelWiseKL()(t + 3, t)) < 1e-5
        True
    """

    inputs = ("student", "teacher")

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return channel_divergence(student, teacher, self.temperature) * self.temperature**2
