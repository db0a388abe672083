"""Several processes of one training, of which the first reads for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

__all__ = ["from_first", "is_distributed"]

Value = TypeVar("Value")


def is_distributed() -> bool:
    """Whether this process belongs to a process group."""
    return dist.is_available() and dist.is_initialized()


def from_first(read: Callable[[], Value]) -> Value:
    """The value that ``read`` returns in rank 0, in all processes of the group; without a group, ``read()``.

    Only rank 0 writes the files of a run, and on other computers they do not exist.

    Args:
        read: called in rank 0 only; its value is pickled.

    Raises:
        Exception: whatever ``read`` raised, in all processes.

    Example:
        >>> from_first(lambda: 3)
        3
    """
    if not is_distributed():
        return read()
    found: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            found[0] = read()
        except Exception as error:
            found[1] = error
    dist.broadcast_object_list(found, src=0)
    if found[1] is not None:
        raise found[1]
    value: Value = found[0]
    return value
