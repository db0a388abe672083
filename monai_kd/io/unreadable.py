"""What is raised for a file that can't be used, and how its reason is found again."""

from __future__ import annotations

__all__ = ["UnreadableImage", "UnusableItems", "reason_of"]


class UnreadableImage(ValueError):
    """An image file that can't be used.

    Args:
        reason: without the file's folder or any header value.
        path: of the file, for the message; left out where the message goes to others than who owns the folder.
    """

    def __init__(self, reason: str, path: str | None = None) -> None:
        super().__init__(reason if path is None else f"{path}: {reason}")
        self.reason = reason


class UnusableItems(ValueError):
    """Files of a data set that can't be used; the message names each, up to a few, with its reason."""


def reason_of(error: BaseException) -> str | None:
    """The reason of the `UnreadableImage` that led to ``error``, however often MONAI wrapped it; else ``None``.

    Without the file's path, also where the message has it.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UnreadableImage):
        cause = cause.__cause__
    return None if cause is None else cause.reason
