"""What to say when a disk is full, or a folder may not be written to; and whether a file's writer is still there."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)  # a file where a folder is to be


class WriteError(OSError):
    """A file or folder could not be written; `errno` is that of the system, the message says where and what to do."""


def write_error(error: OSError, path: Path, written: int = 0, needed: int | None = None) -> WriteError | None:
    """The error with all that must be known to mend it; None where it is one already, or is not about writing `path`.

    Args:
        error: what was raised while `path` was written under a temporary name in its folder.
        path: file or folder.
        written: bytes that had been written until then, and count as free: they are removed again.
        needed: bytes that were to be written, where they are known.
    """
    code = error.errno
    if isinstance(error, WriteError) or code is None:
        return None
    reason = error.strerror or os.strerror(code)
    if code in FULL:
        known = f"{size_text(needed)} needed" if needed is not None else f"more than {size_text(written)} needed"
        text = (
            f"{path} can't be written: {reason}, {known}, {_free(path, written)}. Make room, or choose another folder."
        )
    elif code == errno.EFBIG:
        text = f"{path} can't be written: {reason}, of more than {size_text(written)}. Choose another disk."
    elif code in (*FORBIDDEN, *NO_FOLDER) and _is_of(error.filename, path.parent):
        text = (
            f"{path.parent} can't be written to: {reason}. Choose another folder, or ask for the right to write there."
        )
    else:
        return None
    return WriteError(code, text)


def check_writable(folder: Path) -> None:
    """Makes the folder where needed, and a file in it that is removed again.

    Raises:
        WriteError: one of them can't be done.
    """
    probe = folder / f".probe.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"0")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        explained = write_error(error, probe)
        if explained is None:
            raise
        raise explained from error


def is_running(process: int) -> bool:
    """Whether a process of this computer is there; True also where that can't be asked without harm."""
    if os.name != "posix":  # elsewhere signal 0 ends it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def size_text(size: int) -> str:
    """A number of bytes for people.

    Example:
        >>> size_text(1_234_567), size_text(1234), size_text(0)
        ('1.2 MB', '1.2 kB', '0.0 kB')
    """
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _free(path: Path, written: int) -> str:
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        return f"{size_text(shutil.disk_usage(folder).free + written)} free"
    except OSError:
        return "nobody knows how much free"


def _is_of(name: object, folder: Path) -> bool:
    """Whether the file of an error is in the folder, or is the folder or one above it that could not be made."""
    if not isinstance(name, (str, os.PathLike)):
        return False
    named = Path(name)
    return named.parent == folder or named == folder or named in folder.parents
