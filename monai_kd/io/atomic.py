"""Write files and folders atomically: they appear complete or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_prep.disk import is_running, write_error
from data_prep.text import printable

__all__ = [
    "atomic_folder",
    "atomic_write",
    "check_atomic_folder",
    "check_new_folder",
    "clear_partial",
    "remove_earlier",
    "write_json",
]

logger = logging.getLogger(__name__)

PROBE = 2**20  # bytes; more than is left on a disk when torch fails to write to it
LONGEST_STEM, LONGEST_SUFFIX = 100, 20  # bytes of a name in its temporary name
_PARTIAL = re.compile(r"\..+\.(\d+)\.partial(?:\..*)?|\.partial-(\d+)-.*", re.DOTALL)


@contextmanager
def atomic_write(path: str | Path, needed: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` when the block ends without an exception.

    Args:
        path: the file.
        needed: its size in bytes, where it is known, for the message of a full disk.

    Raises:
        OSError: the disk is full, or the folder can't be written to; the message names the cause and a remedy.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with atomic_write(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        refused = _refused(error, temporary)
        written = temporary.stat().st_size if temporary.is_file() else 0
        explained = None if refused is None else write_error(refused, path, written, needed)
        if explained is None:
            raise
        raise explained from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _temporary(path: Path) -> Path:
    # The suffix stays last: writers such as matplotlib choose the format by it.
    stem, suffix = (path.stem, path.suffix) if len(os.fsencode(path.suffix)) <= LONGEST_SUFFIX else (path.name, "")
    encoded = os.fsencode(stem)
    if len(encoded) > LONGEST_STEM:
        # The name may already have the largest length that the file system allows.
        stem = f"{encoded[:LONGEST_STEM].decode('utf-8', 'ignore')}-{hashlib.sha256(encoded).hexdigest()[:8]}"
    return path.with_name(f".{stem}.{os.getpid()}.partial{suffix}")


def _refused(error: OSError | RuntimeError, temporary: Path) -> OSError | None:
    """The system's error for a failed write. torch and PIL may hide it; then another write is tried to find it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if not temporary.is_file():
        return None
    try:
        with open(temporary, "ab") as file:
            file.write(bytes(PROBE))
    except OSError as again:
        return again
    return None


def check_new_folder(path: Path) -> None:
    """Check that a folder is new or empty.

    Raises:
        FileExistsError: it holds something, or is a file.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file, and a new folder is needed here.")
    if path.exists() and any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty: choose another folder, or remove it.")


def check_atomic_folder(path: Path) -> None:
    """Check that `atomic_folder` can put a folder at a path: `check_new_folder`, and an empty one can be replaced.

    Raises:
        FileExistsError: as `check_new_folder`, or it is a mount point or the working directory.
    """
    check_new_folder(path)
    if os.path.ismount(path):
        raise FileExistsError(f"{path} is a mount point, which can't be replaced: choose a new folder within it.")
    if path.exists() and path.samefile(Path.cwd()):
        raise FileExistsError(
            f"{path} is the working directory, which would be replaced under the shell: choose a new folder within it."
        )


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``, and rename it to ``path`` when the block ends without an exception.

    Args:
        path: absolute; it must pass `check_atomic_folder`.

    Raises:
        OSError: the disk is full, or the folder can't be written to; the message names the cause and a remedy.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for earlier in path.parent.glob(".partial-*"):
            if (earlier / path.name).is_dir():
                _clear(earlier)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".partial-{os.getpid()}-") as temporary:
            folder = Path(temporary) / path.name
            folder.mkdir()
            yield folder
            if path.is_dir():
                path.rmdir()
            folder.rename(path)
    except OSError as error:
        explained = write_error(error, path)
        if explained is None:
            raise
        raise explained from error


def remove_earlier(paths: Iterable[Path], what: str) -> None:
    """Remove files of an earlier run, which could be mistaken for results of this one; each is logged as a warning.

    Args:
        paths: the files; those that do not exist are skipped.
        what: kind of run that wrote them, for the message.
    """
    for path in paths:
        if path.is_file() or path.is_symlink():
            path.unlink()
            logger.warning("%s of an earlier %s is removed.", printable(str(path)), what)


def clear_partial(folder: str | Path) -> None:
    """Remove partial files of killed processes from a folder that only this run writes into; logged as warnings.

    Subfolders are not searched, and partial files of processes that still run on this computer are kept.
    """
    for path in sorted(Path(folder).glob(".*")):
        _clear(path)


def _clear(path: Path) -> None:
    found = _PARTIAL.fullmatch(path.name)
    if found is None or path.is_symlink() or is_running(int(found[1] or found[2])):
        return
    try:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    except OSError as error:
        logger.warning("%s, which a killed process left, can't be removed: %s", printable(str(path)), error.strerror)
    else:
        logger.warning("%s, half written by a process that was killed, is removed.", printable(str(path)))


def write_json(content: Any, path: str | Path) -> None:
    """Write a file of strict JSON atomically.

    Args:
        content: any value that ``json.dumps`` takes.
        path: the file.

    Raises:
        ValueError: a number is not finite, which JSON can't express.
        OSError: as for `atomic_write`.
    """
    text = (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()
    with atomic_write(path, needed=len(text)) as temporary:
        temporary.write_bytes(text)
