"""Errors for files that can't be used, and their reasons."""

from __future__ import annotations

from pathlib import Path

import torch

__all__ = ["NO_MEMORY", "UnreadableImage", "UnusableItems", "first_line", "reason_of"]

NO_MEMORY = "it does not fit into memory"


class UnreadableImage(ValueError):
    """An image file that can't be used.

    Args:
        reason: without the file's folder or any header value.
        path: of the file, for the message; left out where the message is shown to people who must not see the folder.
    """

    def __init__(self, reason: str, path: str | None = None) -> None:
        super().__init__(reason if path is None else f"{path}: {reason}")
        self.reason = reason


class UnusableItems(ValueError):
    """Files of a data set that can't be used; the message names the first few with their reasons."""


def reason_of(error: BaseException) -> str | None:
    """The reason of the `UnreadableImage` that led to ``error``, however often MONAI wrapped it; else ``None``.

    The reason does not have the file's path, even where the message has it. Too little memory, of the computer or of
    the GPU, is a reason too, because the next image may be smaller.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UnreadableImage) and not _out_of_memory(cause):
        cause = cause.__cause__
    if isinstance(cause, UnreadableImage):
        return cause.reason
    return None if cause is None else NO_MEMORY


def _out_of_memory(error: BaseException) -> bool:
    """Of Python, of a GPU, or of torch's allocator on the CPU, which raises a plain ``RuntimeError``."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def first_line(error: Exception, path: Path) -> str:
    """Type and first line of an error, without the folder of the file. A ``KeyError`` has only the key as message."""
    line = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}".removesuffix(": ")
    # Readers of the table must not see the folder.
    return line.replace(str(path), path.name)[:160]
