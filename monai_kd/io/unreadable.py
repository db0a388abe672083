"""What is raised for a file that can't be used, and how its reason is found again."""

from __future__ import annotations

from pathlib import Path

__all__ = ["NO_MEMORY", "UnreadableFile", "UnreadableImage", "first_line", "reason_of"]

NO_MEMORY = "it does not fit into memory"


class UnreadableImage(ValueError):
    """An image file that can't be used; the message is the reason, without the file's folder or any header value."""


class UnreadableFile(UnreadableImage):
    """The same with the path of the file in front, for programs that read many; raised from what `reason_of` finds."""


def reason_of(error: BaseException) -> str | None:
    """The reason of the `UnreadableImage` that led to ``error``, however often it was wrapped; else ``None``.

    A ``MemoryError`` is a reason too: the next image may be smaller.
    """
    reason: str | None = None
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnreadableImage):
            reason = str(cause)
        elif isinstance(cause, MemoryError):
            reason = NO_MEMORY
        cause = cause.__cause__
    return reason


def first_line(error: Exception, path: Path) -> str:
    """Type and first line of an error, as a ``KeyError`` says no more than the key; without the folder of the file."""
    line = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}".removesuffix(": ")
    # Where the file lies is nobody's business who reads the table.
    return line.replace(str(path), path.name)[:160]
