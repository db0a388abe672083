"""What is raised for a file that can't be used, and how its reason is found again."""

from __future__ import annotations

__all__ = ["UnreadableImage", "reason_of"]


class UnreadableImage(ValueError):
    """An image file that can't be used; the message is the reason, without the file's folder or any header value."""


def reason_of(error: BaseException) -> str | None:
    """The reason of the `UnreadableImage` that led to ``error``, however often MONAI wrapped it; else ``None``."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UnreadableImage):
        cause = cause.__cause__
    return None if cause is None else str(cause)
