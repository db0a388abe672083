"""What has been converted already: kept while a conversion runs, so that a killed one goes on where it was."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from data_prep.worker import Row, is_converted

NAME = "conversion.partial.jsonl"


class JournalError(Exception):
    """The data set folder is in use, or holds something else."""


class Journal:
    """Append-only file with one line for the settings and one for each finished slice.

    `done` has the rows of an interrupted conversion by id, the last one where an id was written twice.
    """

    def __init__(self, file: IO[str], done: dict[str, Row]) -> None:
        self._file = file
        self.done = done
        self.needed = bool(done)

    def add(self, row: Row) -> None:
        """Records a slice whose files are written. Flushed at once: a kill -9 loses nothing that was recorded."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        self.needed = True

    def finish(self) -> None:
        """The conversion is complete: the journal goes away when it is closed."""
        self.needed = False


@contextlib.contextmanager
def open_journal(dst: Path, settings: dict[str, object]) -> Iterator[Journal]:
    """The journal in `dst`, locked against a second conversion.

    The file stays for the next try unless the conversion was finished, or has recorded nothing.

    Raises:
        JournalError: another process is converting into `dst`, the journal was begun with other settings, or it is
            damaged.
    """
    path = dst / NAME
    with open(path, "a+", encoding="utf-8") as file:
        _lock(file, dst)
        lines = path.read_bytes().splitlines(keepends=True)
        # Killed in the middle of a line: that slice is simply converted again.
        whole = [line for line in lines if line.endswith(b"\n")]
        old, rows = _parsed(whole, path) if whole else (settings, [])
        check_settings(old, settings, dst)
        if len(whole) < len(lines):
            file.truncate(sum(map(len, whole)))
        if not whole:
            file.write(json.dumps(settings) + "\n")
            file.flush()
        log = Journal(file, {row["id"]: row for row in rows})
        try:
            yield log
        finally:
            if not log.needed:
                file.close()
                path.unlink()


def _parsed(lines: list[bytes], path: Path) -> tuple[dict[str, object], list[Row]]:
    """Settings and rows out of the lines of a journal."""
    try:
        settings, *rows = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        settings, rows = None, []
    if not isinstance(settings, dict) or not all(map(is_converted, rows)):
        raise JournalError(f"{path} is damaged: delete it, then what it recorded is converted again")
    return settings, rows


def check_settings(old: dict[str, object], new: dict[str, object], dst: Path) -> None:
    """Raises JournalError when `dst` was begun with other settings than these."""
    changed = [f"{key} {old.get(key)!r}, now {new[key]!r}" for key in new if old.get(key) != new[key]]
    if changed:
        raise JournalError(
            f"{dst} holds a conversion with other settings ({'; '.join(changed)}): "
            "choose another folder, delete this one, or use the old settings"
        )


def _lock(file: IO[str], dst: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two conversions into one folder at a time go unnoticed there
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise JournalError(f"another process is converting into {dst}: wait for it, or choose another folder") from None
