"""Hashes of files."""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from pathlib import Path

__all__ = ["file_sha256"]

# Seconds after which another change of a file gets another time stamp on any file system.
_SETTLED = 3.0


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits.

    The result is cached, because a checkpoint's hash is needed several times. The file is read again when its size or
    its time stamps have changed, or are so recent that they might miss a change.

    Raises:
        FileNotFoundError: there is no such file.

    Example:
        >>> import tempfile
        >>> empty = tempfile.NamedTemporaryFile()
        >>> file_sha256(empty.name)[:12]
        'e3b0c44298fc'
    """
    path = Path(path).resolve()
    status = path.stat()
    if time.time() - max(status.st_mtime, status.st_ctime) < _SETTLED:
        return _digest(path)
    return _cached(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@lru_cache(maxsize=64)
def _cached(path: Path, _status: tuple[int, ...]) -> str:
    return _digest(path)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
