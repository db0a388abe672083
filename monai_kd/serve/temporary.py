"""Folders for uploads, which are slices of patients: they go with the upload, or when the next server starts."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: what a killed server left stays there
    fcntl = None  # type: ignore[assignment]

__all__ = ["clear_leftovers", "upload_folder"]

PREFIX = "monai_kd-serve-"


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A temporary folder that is locked for as long as this process lives and the block lasts, then removed."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        if fcntl is None:
            yield Path(name)
            return
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Before anything is in it: clear_leftovers leaves empty folders alone.
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(folder)


def clear_leftovers() -> list[Path]:
    """Remove folders of this user that a killed server left; the system frees the lock of a process that is gone.

    Returns:
        the removed folders.
    """
    if fcntl is None:
        return []
    found = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    return [path for path in found if _cleared(path)]


def _cleared(path: Path) -> bool:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # of another user, a link, or gone
        return False
    try:
        if os.fstat(folder).st_uid != os.getuid():
            return False
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.listdir(folder):
            return False
        shutil.rmtree(path)
    except OSError:  # of a running server, or on a file system without locks
        return False
    finally:
        os.close(folder)
    return True
