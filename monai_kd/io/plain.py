"""Tensors without MONAI's metadata."""

from __future__ import annotations

import torch
from monai.data import MetaTensor

__all__ = ["plain_tensor"]


def plain_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without metadata, sharing its memory: every operation on a ``MetaTensor`` is several times slower.

    MONAI's ``convert_to_tensor`` also makes it contiguous, which would undo ``torch.channels_last``.

    Example:
        >>> type(plain_tensor(MetaTensor(torch.zeros(1)))).__name__
        'Tensor'
    """
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
