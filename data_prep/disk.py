"""Explanations of write errors, such as a full disk, and whether the process that was writing a file still runs."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)  # a file where a folder is to be


class WriteError(OSError):
    """A file or folder could not be written; `errno` is the system's, the message names the path and a remedy."""


def write_error(error: OSError, path: Path, written: int = 0, needed: int | None = None) -> WriteError | None:
    """Explain a write error; None where `error` is a `WriteError` already, or is not about writing `path`.

    Args:
        error: raised while `path` was written under a temporary name in its folder.
        path: file or folder.
        written: bytes written before the error; they count as free, because they are removed again.
        needed: size of the content in bytes, where it is known.
    """
    code = error.errno
    if isinstance(error, WriteError) or code is None:
        return None
    reason = error.strerror or os.strerror(code)
    if code in FULL:
        known = f"{size_text(needed)} needed, " if needed is not None else ""
        if needed is None and written:
            known = f"more than {size_text(written)} needed, "
        text = f"{path} can't be written: {reason}, {known}{_free(path, written)}. Make room, or choose another folder."
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
    """Make the folder where needed, and check that a file can be written into it.

    Raises:
        WriteError: the folder can't be made or written to.
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
        if explained is None and error.errno is not None:
            reason = error.strerror or os.strerror(error.errno)
            explained = WriteError(error.errno, f"{folder} can't be written to: {reason}. Choose another folder.")
        if explained is None:
            raise
        raise explained from error


def is_running(process: int) -> bool:
    """Whether this computer runs a process with this id; True also on systems where asking would end the process."""
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
    """A number of bytes as text for messages.

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
        return "an unknown amount free"


def _is_of(name: object, folder: Path) -> bool:
    """Whether the path of an error is in the folder, or is the folder itself or a parent that could not be made."""
    if not isinstance(name, (str, os.PathLike)):
        return False
    named = Path(name)
    return named.parent == folder or named == folder or named in folder.parents
