"""Grey images as a network takes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["network_input"]


def network_input(
    image: torch.Tensor,
    channels: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    axis: int = 0,
) -> torch.Tensor:
    """Repeat the grey channel and normalise it, with the numbers of MONAI's transforms for items.

    Args:
        image: one channel, with values from 0 to 1 where ``mean`` and ``std`` are those of such images.
        channels: of the output; with 1, images of several channels stay as they are.
        mean, std: one number for each channel; ``None`` for neither.
        axis: of the channels: 0 for an item, 1 for a batch.

    Shape:
        - image: (1, spatial axes …), or (B, 1, spatial axes …) with axis 1, floating-point
        - output: the same with ``channels`` in place of 1, contiguous

    Example:
        >>> network_input(torch.ones(2, 1, 1, 1), 2, mean=[0.0, 1.0], std=[1.0, 2.0], axis=1).flatten(1).tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    if channels > 1:
        image = image.expand(*image.shape[:axis], channels, *image.shape[axis + 1 :])
    if mean is not None and std is not None:
        shape = (-1, *[1] * (image.ndim - axis - 1))
        image = (image - image.new_tensor(mean).reshape(shape)) / image.new_tensor(std).reshape(shape)
    return image.contiguous()
