"""Counts the operations that torch dispatches."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Dispatched(TorchDispatchMode):
    """A context that counts the calls of some operations, such as ``torch.ops.aten.add.Tensor``, or of all of them."""

    def __init__(self, *operations: Any) -> None:
        super().__init__()
        self.operations, self.count = operations, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not self.operations or func in self.operations
        return func(*args, **(kwargs or {}))
