"""A journal of the slices converted so far, so that a killed conversion continues where it stopped."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from data_prep.disk import write_error
from data_prep.lock import only_writer
from data_prep.worker import Row, is_converted

NAME = "conversion.partial.jsonl"


class JournalError(Exception):
    """The journal in the data set folder is damaged, or belongs to a conversion with other settings."""


class Journal:
    """Append-only file with one line for the settings and one for each finished slice.

    `done` has the rows of an interrupted conversion by id; where an id was written twice, the last one.
    """

    def __init__(self, file: IO[str], done: dict[str, Row]) -> None:
        self._file = file
        self.done = done
        self.needed = bool(done)

    def add(self, row: Row) -> None:
        """Record a slice whose files are written. It is flushed at once, so that even a kill -9 loses no record."""
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as error:
            raise (write_error(error, Path(self._file.name)) or error) from error
        self.needed = True

    def finish(self) -> None:
        """Mark the conversion as complete: the journal is removed when it is closed."""
        self.needed = False


@contextlib.contextmanager
def open_journal(dst: Path, settings: dict[str, object]) -> Iterator[Journal]:
    """Open the journal in `dst`, which is locked against a second conversion.

    The file is kept for the next run, unless the conversion has finished or recorded nothing.

    Raises:
        FolderInUse: another process is converting into `dst`.
        JournalError: the journal was begun with other settings, or it is damaged.
    """
    path = dst / NAME
    with only_writer(dst), open(path, "a+", encoding="utf-8") as file:
        lines = path.read_bytes().splitlines(keepends=True)
        # An incomplete line was cut off by a kill: that slice is converted again.
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
    """Settings and rows in the lines of a journal."""
    try:
        settings, *rows = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        settings, rows = None, []
    if not isinstance(settings, dict) or not all(map(is_converted, rows)):
        raise JournalError(f"{path} is damaged: delete it, then what it recorded is converted again")
    return settings, rows


def check_settings(old: dict[str, object], new: dict[str, object], dst: Path) -> None:
    """Compare the settings of an earlier conversion into `dst` with those of this one.

    Raises:
        JournalError: they differ.
    """
    changed = [f"{key} {old.get(key)!r}, now {new[key]!r}" for key in new if old.get(key) != new[key]]
    if changed:
        raise JournalError(
            f"{dst} holds a conversion with other settings ({'; '.join(changed)}): "
            "choose another folder, delete this one, or use the old settings"
        )
