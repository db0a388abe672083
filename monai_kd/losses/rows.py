"""Some of the items of a batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

__all__ = ["rows_of"]


def rows_of(value: object, rows: torch.Tensor) -> object:
    """What an output or a label of a batch holds of some of its items.

    Args:
        value: (B, …), or a list or a mapping of such tensors, as heads and features are.
        rows: (R,), the numbers of the items, on the CPU.

    Returns:
        the same with R items.

    Example:
        >>> rows_of({"d1": torch.tensor([[1], [2], [3]])}, torch.tensor([0, 2]))
        {'d1': tensor([[1],
                [3]])}
    """
    if isinstance(value, torch.Tensor):
        return value.index_select(0, rows.to(value.device, non_blocking=True))
    if isinstance(value, Mapping):
        return {name: rows_of(each, rows) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rows_of(each, rows) for each in value]
    return value
