"""Some of the items of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

__all__ = ["nothing_of", "rows_of"]


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


def nothing_of(values: Iterable[object]) -> torch.Tensor:
    """0, with a graph to all tensors in outputs, so that none of their weights lacks a gradient.

    ``DistributedDataParallel`` waits for the gradients of all weights.

    Example:
        >>> heads = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
        >>> nothing_of([heads, "label"]).backward()
        >>> [head.grad.tolist() for head in heads]
        [[0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    total = torch.zeros(())
    for value in values:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            part = value.flatten()[:0].sum()
        elif isinstance(value, (Mapping, list, tuple)):
            part = nothing_of(value.values() if isinstance(value, Mapping) else value)
        else:
            continue
        total = total.to(part) + part
    return total
