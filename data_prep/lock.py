"""One process at a time writes into a folder."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .disk import check_writable

__all__ = ["FolderInUse", "only_writer"]

NAME = ".lock"
# Error codes of flock for a file that is locked already; any other means that the file system has no locks.
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)

logger = logging.getLogger(__name__)

_held: set[int] = set()


class FolderInUse(OSError):
    """Another process, or another thread of this one, is writing into the folder."""


@contextmanager
def only_writer(folder: str | Path, option: str = "folder", wait: bool = False) -> Iterator[None]:
    """Lock a folder for writing: at most one process, and one thread of it, is in the block at a time.

    The lock is the kernel's (``flock``) on a hidden file in the folder. The kernel releases it when the process ends
    for any reason, so no stale lock is left; the file is removed when the block ends, also by an exception. Programs
    that do not ask for the lock, such as readers, are not stopped.

    The library ``filelock`` does the same on more systems. It is not used because it leaves its file behind in every
    folder, and because recent releases, on file systems without locks, treat the existence of a file as the lock, which
    then remains after a killed process. Here a missing lock, as on such file systems and on Windows, is logged as a
    warning.

    Args:
        folder: made when needed, and removed again if an exception ends the block before anything was written.
        option: name of the option to change when the folder is in use, for the message.
        wait: wait until the folder is no longer in use, which is logged, in place of an exception.

    Raises:
        FolderInUse: another process or thread holds the lock.
        WriteError: the folder can't be made or written to; the message names it.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with only_writer(folder), only_writer(folder):
        ...     pass
        Traceback (most recent call last):
        ...
        data_prep.lock.FolderInUse: another process is writing into ...
    """
    folder = Path(folder).expanduser()
    made = not folder.exists()
    check_writable(folder)
    descriptor = _locked(folder, option, wait)
    empty = False
    try:
        yield
    except BaseException:
        empty = made
        raise
    finally:
        # A child process that was forked in the block does not hold the lock.
        if descriptor in _held:
            _held.discard(descriptor)
            # Removed while still locked: later it could be the file of the next process.
            (folder / NAME).unlink(missing_ok=True)
            os.close(descriptor)
        if empty:
            with suppress(OSError):  # what was written stays
                folder.rmdir()


def _locked(folder: Path, option: str, wait: bool) -> int | None:
    """Descriptor of the open and locked file; ``None`` where there are no locks."""
    try:
        import fcntl
    except ImportError:
        logger.warning("This system has no flock: don't start a second process that writes to %s.", folder)
        return None
    path = folder / NAME
    while True:
        # The process before may have removed the folder that it had made.
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _TAKEN:
                os.close(descriptor)
                path.unlink(missing_ok=True)
                logger.warning(
                    "%s is on a file system without locks (%s): don't start a second process that writes to it.",
                    *(folder, error.strerror),
                )
                return None
            try:
                if not wait:
                    raise
                logger.warning("Another process is writing into %s: waiting until it has ended.", folder)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                os.close(descriptor)
                raise FolderInUse(
                    f"another process is writing into {folder}: wait until it has ended, or choose another {option}"
                ) from None
        if _is_at(descriptor, path):
            _held.add(descriptor)
            return descriptor
        # The process before removed the file between our opening and locking it: no other process would see this lock.
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _release_in_child() -> None:
    # A forked child, such as a data loading worker, would otherwise keep the lock when it outlives its parent.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_in_child)
