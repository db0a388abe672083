"""One process at a time writes into a folder."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["FolderInUse", "only_writer"]

NAME = ".lock"
# What flock and open say of a file that somebody else has locked; all else means that nothing can be locked there.
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)

logger = logging.getLogger(__name__)

_held: set[int] = set()


class FolderInUse(OSError):
    """Another process, or another thread of this one, writes into the folder."""


@contextmanager
def only_writer(folder: str | Path, option: str = "folder") -> Iterator[None]:
    """A block that no two processes, nor two threads, run for the same folder at the same time.

    The lock is the kernel's (``flock``) on a hidden file in the folder. The kernel releases it when the process ends in
    whatever way, so nothing is ever left locked; the file is removed when the block ends, by an exception too. Programs
    that ask for no lock, such as those that read, are not stopped.

    The library ``filelock`` does the same on more systems. It is not used because it leaves its file behind in every
    folder, and because recent releases, where the file system can't lock, take the mere presence of a file for a lock,
    which a killed process leaves for ever. Here it is logged as a warning then, and on Windows, that nothing is locked.

    Args:
        folder: made when needed.
        option: what is to be changed by whoever finds the folder in use: the name of an option, say.

    Raises:
        FolderInUse: someone else is in such a block for this folder.

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
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _locked(folder, option)
    try:
        yield
    finally:
        # A child that was forked in the block has no lock to release.
        if descriptor in _held:
            _held.discard(descriptor)
            # Removed while it is locked, or the file of the next process would be removed.
            (folder / NAME).unlink(missing_ok=True)
            os.close(descriptor)


def _locked(folder: Path, option: str) -> int | None:
    """An open and locked file; ``None`` where there are no locks."""
    try:
        import fcntl
    except ImportError:
        logger.warning("This system has no flock: don't start a second process that writes to %s.", folder)
        return None
    path = folder / NAME
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise FolderInUse(
                    f"another process is writing into {folder}: wait until it has ended, or choose another {option}"
                ) from None
            path.unlink(missing_ok=True)
            logger.warning(
                "%s is on a file system without locks (%s): don't start a second process that writes to it.",
                *(folder, error.strerror),
            )
            return None
        if _is_at(descriptor, path):
            _held.add(descriptor)
            return descriptor
        # Between opening and locking, the process before has ended and removed the file: another one would not see it.
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _let_go() -> None:
    # A forked child, such as a worker that loads data, would keep the lock for as long as it outlives its parent.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
