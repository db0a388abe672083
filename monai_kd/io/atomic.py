"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["check_new_folder", "folder_written_whole", "write_json", "written_whole"]


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to, and rename it to ``path`` when the block ends well.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with written_whole(target) as temporary:
        ...     _ = temporary.write_text("done")
        >>> target.read_text()
        'done'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as matplotlib choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_new_folder(path: Path) -> None:
    """Refuse a folder that holds something, or a file.

    Raises:
        FileExistsError: it is one.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} is not empty: choose another folder, or remove it.")


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path`` to fill, and rename it to ``path`` when the block ends well.

    Args:
        path: absolute; it must pass `check_new_folder`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir()
        yield folder
        if path.is_dir():
            path.rmdir()
        folder.rename(path)


def write_json(content: Any, path: str | Path) -> None:
    """Write a file of strict JSON, whole or not at all.

    Args:
        content: what ``json.dumps`` takes.
        path: the file.

    Raises:
        ValueError: a number is not finite, which JSON has no word for.
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
