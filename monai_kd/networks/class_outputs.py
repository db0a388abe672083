"""Classes that a network of masks returns beside its masks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["class_logits", "log_odds_of_others", "returning_classes"]

_COUNTING = threading.Lock()


def class_logits(output: Any) -> torch.Tensor | None:
    """Those (B, K) that a network of masks returns beside its masks, as `TimmUNet` with ``classes`` does.

    Example:
        >>> class_logits((torch.zeros(2, 1, 8, 8), torch.zeros(2, 4))).shape
        torch.Size([2, 4])
    """
    if not isinstance(output, (list, tuple)):
        return None
    flat = [each for each in output if isinstance(each, torch.Tensor) and each.ndim == 2]
    return flat[0] if len(flat) == 1 else None


@contextmanager
def returning_classes(network: nn.Module) -> Iterator[None]:
    """Let a network that can return its classes beside the masks do so in evaluation mode, too."""
    if not hasattr(network, "with_classes"):
        yield
        return
    _add(network, 1)
    try:
        yield
    finally:
        _add(network, -1)


def _add(network: Any, count: int) -> None:
    # Counted, since several threads may be inside at once.
    with _COUNTING:
        network.with_classes = int(network.with_classes) + count


def log_odds_of_others(logits: torch.Tensor, index: int) -> torch.Tensor:
    """The log-odds, of a softmax, of any class but one: of a tumour, where that one is "no tumour".

    Shape:
        - logits: (B, K)
        - result: (B, 1)

    Example:
        >>> log_odds_of_others(torch.tensor([[0.1, 0.2, 0.7]]).log(), 2).exp().round(decimals=4)
        tensor([[0.4286]])
    """
    others = [number for number in range(logits.shape[1]) if number != index]
    return logits[:, others].logsumexp(1, keepdim=True) - logits[:, index : index + 1]
