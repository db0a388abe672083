"""Tensors with few different values, as an index into the list of their values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

__all__ = ["packed", "unpacked"]

_INTEGERS = {torch.float32: np.uint32, torch.int32: np.uint32, torch.uint8: np.uint8, torch.int16: np.uint16}
_INDEX = ((2**8, np.uint8), (2**16, np.uint16))


def packed(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """The parts of a tensor, as small as can be without a loss; `unpacked` gives the same bits back.

    A slice of integers that was scaled and resized has fewer different values than pixels: its values are listed once,
    and each pixel is an index of 1 bit (masks), 8 or 16 bits. A tensor that would not become smaller is kept as it is.

    Args:
        tensor: on the CPU.

    Example:
        >>> {name: part.tolist() for name, part in packed(torch.tensor([[0.0, 7.0] * 4] * 2)).items()}
        {'values': [0.0, 7.0], 'bits': [85, 85], 'shape': [2, 8]}
    """
    kind = _INTEGERS.get(tensor.dtype)
    if kind is None or tensor.numel() == 0:
        return {"plain": tensor}
    # Compared as bits, because -0 equals 0 and NaN does not equal itself.
    bits = tensor.contiguous().numpy().reshape(-1).view(kind)
    values, index = np.unique(bits, return_inverse=True)
    parts = {"values": torch.from_numpy(values).view(tensor.dtype)}
    if len(values) <= 2:
        parts |= {"bits": torch.from_numpy(np.packbits(index.astype(bool))), "shape": torch.tensor(tensor.shape)}
    elif (narrow := next((each for most, each in _INDEX if len(values) <= most), None)) is not None:
        parts["index"] = torch.from_numpy(index.reshape(tensor.shape).astype(narrow))
    else:
        return {"plain": tensor}
    return parts if sum(part.nbytes for part in parts.values()) < tensor.nbytes else {"plain": tensor}


def unpacked(parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A new tensor from its `packed` parts.

    Example:
        >>> unpacked(packed(torch.tensor([3, 5, 3], dtype=torch.uint8)))
        tensor([3, 5, 3], dtype=torch.uint8)
    """
    if "plain" in parts:
        return parts["plain"].clone()
    values = parts["values"].numpy()
    if "index" in parts:
        return torch.from_numpy(values.take(parts["index"].numpy()))
    shape = parts["shape"].tolist()
    index = np.unpackbits(parts["bits"].numpy(), count=int(np.prod(shape)))
    return torch.from_numpy(values.take(index).reshape(shape))
