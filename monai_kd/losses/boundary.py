"""Divergence of predictions, with more weight near the boundary of the label."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .probability import activation_of, check_activation, check_temperature, divergence, same_shape
from .target import target_masks

__all__ = ["BandTerm", "BoundaryKL", "boundary_band"]

_MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def boundary_band(masks: torch.Tensor, kernel_size: int) -> torch.Tensor:
    r"""The band around the boundary of a mask: 1 in the band, 0 elsewhere.

    .. math:: \mathrm{dilate}(Y, k) - \mathrm{erode}(Y, k)

    with a square or cube of side k. The band is k − 1 pixels wide: (k − 1)/2 on each side of the boundary. Positions
    outside of the image are ignored, so its border is no boundary.

    Args:
        masks: (B, C, one to three spatial axes), 0 or 1, floating.
        kernel_size: k, odd.

    Returns:
        the same shape.

    Example:
        >>> boundary_band(torch.tensor([[[1.0, 1, 1, 1, 0, 0, 0]]]), 3)
        tensor([[[0., 0., 0., 1., 1., 0., 0.]]])
    """
    pool = _MAX_POOL[masks.ndim - 2]
    # Max-pooling pads with -inf, which is neutral in the dilation, and in the erosion as a dilation of -masks.
    dilated = pool(masks, kernel_size, stride=1, padding=kernel_size // 2)
    return dilated + pool(-masks, kernel_size, stride=1, padding=kernel_size // 2)


class BandTerm(nn.Module):
    """Base of the loss terms that treat the band around the boundary of the label differently.

    Args:
        kernel_size: k, odd, at least 3, see `boundary_band`.
        temperature: T > 0.
        activation: "sigmoid" or "softmax", as for `LogitKL`; ``None`` serves one channel.

    Raises:
        ValueError: an argument is out of range.
    """

    inputs = ("student", "teacher", "label")

    def __init__(self, kernel_size: int = 5, temperature: float = 4.0, activation: str | None = None) -> None:
        super().__init__()
        if kernel_size < 3 or kernel_size % 2 != 1:
            raise ValueError(f"kernel_size must be odd and at least 3 pixels, got {kernel_size}.")
        self.kernel_size = int(kernel_size)
        self.temperature = check_temperature(temperature)
        self.activation = check_activation(activation)

    def bands(self, student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, str]:
        """`boundary_band` of each channel of the logits, and their activation.

        Raises:
            ValueError: the shapes don't fit, or there are no positions.
        """
        same_shape(student, teacher)
        if not 3 <= student.ndim <= 5:
            raise ValueError(f"logits {tuple(student.shape)} must be (B, C, one to three spatial axes).")
        activation = activation_of(student, self.activation)
        with torch.no_grad():
            return boundary_band(target_masks(label, student, activation), self.kernel_size), activation


class BoundaryKL(BandTerm):
    r"""Kullback–Leibler divergence of softened predictions, with a larger weight near the boundary of the label.

    .. math::
        T^2 \, \frac{\sum_i w_i \, \mathrm{KL}_i}{\sum_i w_i},
        \qquad w = 1 + \lambda \, (\mathrm{dilate}(Y, k) - \mathrm{erode}(Y, k))

    with the divergence of `LogitKL` at each position. Sigmoid: w and KL of each channel. Softmax: the band of w is that
    of the boundaries of all classes. Without a boundary, it is `LogitKL`.

    Args:
        boundary_weight: λ ≥ 0; a position in the band counts 1 + λ times.
        kernel_size: k, odd, at least 3. The band is k − 1 pixels wide, 4 by default: masks are often drawn as polygons,
            with an error of about a pixel.
        temperature: T > 0.
        activation: "sigmoid" or "softmax", as for `LogitKL`; ``None`` serves one channel.

    Shape:
        - student, teacher: (B, C, one to three spatial axes), logits
        - label: the same shape, 0 or 1; for a softmax also (B, 1, …), the class of each position
        - output: scalar

    Raises:
        ValueError: an argument is out of range, the shapes differ, there are several channels and no ``activation``,
            or one channel and "softmax".

    Example:
        >>> y = torch.zeros(1, 1, 8, 8); y[..., 2:6, 2:6] = 1
        >>> float(BoundaryKL()(y, y, y))
        0.0
    """

    def __init__(
        self,
        boundary_weight: float = 4.0,
        kernel_size: int = 5,
        temperature: float = 4.0,
        activation: str | None = None,
    ) -> None:
        super().__init__(kernel_size, temperature, activation)
        if not 0 <= boundary_weight < math.inf:
            raise ValueError(f"boundary_weight must be finite and not negative, got {boundary_weight}.")
        self.boundary_weight = float(boundary_weight)

    def forward(self, student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        band, activation = self.bands(student, teacher, label)
        if activation == "softmax":
            band = band.amax(dim=1, keepdim=True)
        weight = 1 + self.boundary_weight * band
        found = divergence(student, teacher, self.temperature, activation)
        return (weight * found).mean() / weight.mean() * self.temperature**2
