"""Errors of the system that end one file and not the run."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from pathlib import Path

from data_prep.disk import FULL, WriteError

__all__ = ["system_reason", "unread_reason", "unwritten_reason"]

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
    cause = _of_system(error)
    if cause is None or cause.errno is None or cause.errno in _OF_ALL:
        return None
    if paths is not None and cause.filename is not None and os.fsdecode(cause.filename) not in paths:
        return None
    return os.strerror(cause.errno)


def unread_reason(error: BaseException, paths: Collection[str]) -> str | None:
    """Why a file could not be read; ``None`` where the run can't go on. Arguments are those of `system_reason`."""
    reason = system_reason(error, paths)
    return reason and f"it can't be read: {reason}"


def unwritten_reason(error: BaseException) -> str | None:
    """Why an output could not be written, with its folder; ``None`` where the run can't go on.

    Args:
        error: as for `system_reason`.

    Example:
        >>> unwritten_reason(OSError(errno.EIO, "Input/output error", "/out/scan_mask.nii.gz"))
        "an output can't be written to /out: Input/output error"
    """
    reason, cause = system_reason(error), _of_system(error)
    if reason is None or cause is None:
        return None
    if isinstance(cause, WriteError):
        return f"{UNWRITTEN}: {cause.strerror}"
    folder = f" to {Path(os.fsdecode(cause.filename)).parent}" if cause.filename else ""
    return f"{UNWRITTEN}{folder}: {reason}"


def _of_system(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error
