"""Errors of the system that end one file and not the run."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection

from data_prep.disk import FULL

__all__ = ["UNWRITTEN", "system_reason"]

UNWRITTEN = "an output can't be written"

# The files after it would end in the same way.
_OF_ALL = (*FULL, errno.EROFS)


def system_reason(error: BaseException, paths: Collection[str] | None = None) -> str | None:
    """What the system said of one file, without any folder; ``None`` where the run can't go on.

    Args:
        error: an ``OSError``, or what it led to, however often MONAI wrapped it.
        paths: files that were read; the error of another file is none of theirs.

    Example:
        >>> system_reason(OSError(errno.EIO, "Input/output error"))
        'Input/output error'
        >>> system_reason(OSError(errno.ENOSPC, "No space left on device")), system_reason(KeyError("a"))
        (None, None)
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    if cause is None or cause.errno is None or cause.errno in _OF_ALL:
        return None
    if paths is not None and cause.filename is not None and os.fsdecode(cause.filename) not in paths:
        return None
    return os.strerror(cause.errno)
