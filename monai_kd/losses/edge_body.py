"""Boundary-privileged distillation (BPKD): separate terms for the edges and the bodies of the masks."""

from __future__ import annotations

import torch

from .boundary import BandTerm
from .channel_wise import channel_divergence
from .probability import divergence

__all__ = ["BodyKL", "EdgeKL"]


class EdgeKL(BandTerm):
    r"""Divergence of predictions near the boundary of the label: the edge term of BPKD.

    .. math::
        T^2 \, \mathrm{mean}_{n,c} \frac{\sum_i M_{n,c,i} \, \mathrm{KL}_{n,i}}{\sum_i M_{n,c,i}},
        \qquad M = \mathrm{dilate}(Y, k) - \mathrm{erode}(Y, k)

    after Liu et al. 2024, https://arxiv.org/abs/2306.08075: each class has the same weight, however short its boundary.
    The mean is over those images and classes that have a boundary; without any, the value is 0.

    Deviations from the paper: the classes are averaged, where the paper sums them with a factor α for each; positions
    outside of the band are left out, where the paper multiplies the logits by M, which keeps them with a logit of 0.
    With a sigmoid, KL is that of the channel, otherwise that over all classes.

    Args:
        kernel_size: k, odd, at least 3: the band is k − 1 pixels wide. The paper's is 7.
        temperature: T > 0.
        activation: "sigmoid" or "softmax", as for `LogitKL`; ``None`` serves one channel.

    Shape:
        - student, teacher: (B, C, one to three spatial axes), logits
        - label: the same shape, 0 or 1; for a softmax also (B, 1, …), the class of each position
        - output: scalar

    Raises:
        ValueError: as for `BoundaryKL`.

    Example:
        >>> y = torch.zeros(1, 1, 8, 8)
        >>> float(EdgeKL()(y + 1, y, y))  # no boundary
        0.0
    """

    def forward(self, student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        band, activation = self.bands(student, teacher, label)
        found = divergence(student, teacher, self.temperature, activation)
        within, size = (band * found).flatten(2).sum(dim=-1), band.flatten(2).sum(dim=-1)
        some = size > 0
        each = within / torch.where(some, size, 1)
        return each.sum() / some.sum().clamp(min=1) * self.temperature**2


class BodyKL(BandTerm):
    r"""Channel-wise divergence away from the boundary of the label: the body term of BPKD.

    .. math::
        T^2 \, \mathrm{mean}_{n,c} \sum_{i:\, M_{n,c,i} = 0}
        \varphi(t)_{n,c,i} \log \frac{\varphi(t)_{n,c,i}}{\varphi(s)_{n,c,i}}

    after Liu et al. 2024, https://arxiv.org/abs/2306.08075, with M as in `EdgeKL` and φ as in `ChannelWiseKL`, here
    over the positions outside of the band. Without a boundary it is `ChannelWiseKL`; a channel that is all band is left
    out.

    Deviation from the paper: positions in the band are left out of the softmax, where the paper multiplies the logits
    by 1 − M, which keeps them with a logit of 0.

    Args:
        kernel_size: k, odd, at least 3: the band that is left out is k − 1 pixels wide. The paper's is 7.
        temperature: T > 0.
        activation: "sigmoid" or "softmax"; decides only how the label is read. ``None`` serves one channel.

    Shape:
        - student, teacher: (B, C, one to three spatial axes), logits
        - label: the same shape, 0 or 1; for a softmax also (B, 1, …), the class of each position
        - output: scalar

    Raises:
        ValueError: as for `BoundaryKL`.

    Example:
        >>> y = torch.zeros(1, 1, 8, 8)
        >>> float(BodyKL()(y, y, y))
        0.0
    """

    def forward(self, student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        band, _ = self.bands(student, teacher, label)
        return channel_divergence(student, teacher, self.temperature, keep=band == 0) * self.temperature**2
