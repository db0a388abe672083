"""Temporary folders for uploads, which are slices of patients: removed with the upload or by the next server."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

__all__ = ["clear_leftovers", "upload_folder"]

HAS_LOCKS = find_spec("fcntl") is not None  # not on Windows, where folders of a killed server are not removed
PREFIX = "monai_kd-serve-"


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A temporary folder, which is locked during the block and removed at its end.

    The system also releases the lock when the process ends.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        if not HAS_LOCKS:
            yield Path(name)
            return
        import fcntl

        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Locked while it is still empty: clear_leftovers keeps empty folders.
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(folder)


def clear_leftovers() -> list[Path]:
    """Remove the folders of this user that a killed server left, and that are therefore not locked any more.

    Returns:
        the removed folders.
    """
    if not HAS_LOCKS:
        return []
    found = sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    return [path for path in found if _cleared(path)]


def _cleared(path: Path) -> bool:
    import fcntl

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
