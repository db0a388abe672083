"""Refuse to open anything but regular files: reading a pipe may block for ever, and a device may have no end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["NotRegular", "check_regular"]

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegular(OSError):
    """A path that is no regular file, nor a link to one; ``strerror`` names its kind."""


def check_regular(path: str | Path) -> int:
    """Return the size of a regular file in bytes, without opening it.

    Raises:
        NotRegular: it is a folder, a named pipe, a socket or a device.
        OSError: there is no such file, or no permission to look it up.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise NotRegular(None, f"it is {kind}, not a file")
    return found.st_size
