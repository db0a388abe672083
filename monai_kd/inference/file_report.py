"""A row for each file that a network was run on, whatever came of it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from data_prep.disk import check_writable
from data_prep.text import printable

from ..io.order import natural_order
from ..io.table import write_table
from .earlier import claim_outputs, unfinished_rows
from .inputs import InputFiles, InputImage
from .system_errors import unwritten_reason

__all__ = ["FileReport", "none_of", "printable"]

logger = logging.getLogger(__name__)

UNSUPPORTED = "unsupported kind of file"
# Files whose pictures are still being drawn while the network runs on the next ones.
MOST_WAITING = 2


def none_of(count: int) -> str:
    """The beginning of a sentence on files that all failed.

    Example:
        >>> none_of(1), none_of(2)
        ('the file could not', 'none of the 2 files could')
    """
    return "the file could not" if count == 1 else f"none of the {count} files could"


@dataclass
class _File:
    """A file whose rows are known, and whose outputs may not all be written yet."""

    where: str
    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[Future] = field(default_factory=list)


class FileReport(ABC):
    """Handler of a `FileEvaluator` that writes a table with a row for each file.

    Files that can't be read, or are of no supported kind, have rows too, with the reason. Outputs of an earlier run for
    the same inputs are removed from the folder when a run starts, see `claim_outputs`. What `meanwhile` writes is there
    when the run ends, and the row of a file when all is written that belongs to it.

    Args:
        inputs: the images that the network is run on.

    Raises:
        ValueError: at the end of the run, when no file could be used.
        OSError: when the run starts: the output folder can't be written to, or has files that would be overwritten.
    """

    table = "files.csv"
    more_tables: Sequence[str] = ()
    done = "done"

    def __init__(self, inputs: InputFiles) -> None:
        self.inputs = inputs
        self.rows: list[dict[str, Any]] = []
        self._waiting: deque[_File] = deque()
        self._file: _File | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    @abstractmethod
    def columns(self) -> Sequence[str]:
        """Of the table."""

    @abstractmethod
    def rows_of(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The results of one file: a row, or one for each of its slices.

        Args:
            item: ``file``, its label in the inputs, and ``source``, its `SourceImage`.
            output: what the post-processing returns.
        """

    @abstractmethod
    def outputs(self, image: InputImage) -> Sequence[Path]:
        """Files that may be written for one input."""

    @abstractmethod
    def summary_line(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """The rows of one file in a line, for the log."""

    @property
    def path(self) -> Path:
        return self.inputs.output_dir / self.table

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _begin(self, _engine: Engine) -> None:
        # Before the network runs for nothing.
        check_writable(self.inputs.output_dir)
        others = [self.inputs.output_dir / name for name in self.more_tables]
        claim_outputs(self.inputs, self.path, self.outputs, others)
        self._waiting.clear()
        self._thread = ThreadPoolExecutor(1)
        self.rows = [{"file": file, "status": "skipped", "reason": UNSUPPORTED} for file in self.inputs.skipped]
        for file in self.inputs.skipped:
            logger.warning("%s: skipped, %s", printable(file), UNSUPPORTED)
        for folder, reason in self.inputs.unreadable.items():
            self.rows.append({"file": folder, "status": "failed", "reason": reason})
            logger.warning("%s: failed, %s", printable(folder), reason)

    def _add(self, engine: Any) -> None:
        batch, where = engine.state.batch, f"[{engine.state.iteration}/{len(self.inputs.images)}]"
        if isinstance(batch, dict):
            self._settle(0)
            for file, reason in zip(batch["file"], batch["reason"], strict=True):
                self._add_failed(where, file, reason)
            return
        for item, output in zip(batch, engine.state.output, strict=True):
            self._file = _File(where, item["file"])
            try:
                self._file.rows = self.rows_of(item, output)
            except OSError as error:
                failed: Future = Future()
                failed.set_exception(error)
                self._file.outputs.append(failed)
            finally:
                self._waiting.append(self._file)
                self._file = None
        self._settle(MOST_WAITING)

    def meanwhile(self, write: Callable[[], object]) -> None:
        """Write an output of the file whose rows are being made, while the network runs on the next ones.

        Pillow and zlib, which take most of the time of a picture, let other threads run.

        Raises:
            OSError: outside of a run, where it is written at once, and can't be.
        """
        if self._file is None or self._thread is None:
            write()
        else:
            self._file.outputs.append(self._thread.submit(write))

    def _settle(self, most: int) -> None:
        """Wait until the outputs of all but some files are written."""
        while len(self._waiting) > most:
            file = self._waiting.popleft()
            try:
                for output in file.outputs:
                    output.result()
            except OSError as error:
                reason = unwritten_reason(error)
                if reason is None:
                    raise
                # A file that failed has no mask.
                with suppress(OSError):
                    for path in self.outputs(self.inputs.labelled(file.name)):
                        path.unlink(missing_ok=True)
                self._add_failed(file.where, file.name, reason)
                continue
            self.rows += file.rows
            logger.info("%s %s: %s", file.where, printable(file.name), self.summary_line(file.rows))

    def _add_failed(self, where: str, file: str, reason: str) -> None:
        self.rows.append({"file": file, "status": "failed", "reason": reason})
        logger.warning("%s %s: FAILED, %s", where, printable(file), printable(reason))

    def output(self, image: InputImage, ending: str) -> Path:
        """A file that is written for one input."""
        return self.inputs.output_dir / f"{image.name}{ending}"

    def named(self, path: Path) -> str:
        """The name of an output in the table: its path in the output folder."""
        return path.relative_to(self.inputs.output_dir).as_posix()

    def write(self) -> None:
        """Write the rows so far."""
        write_table(self.sorted_rows(), self.columns, self.path)

    def sorted_rows(self) -> list[dict[str, Any]]:
        """The rows so far, by the `natural_order` of their files and by slice."""
        return sorted(self.rows, key=lambda row: (natural_order(row["file"]), row.get("slice", 0)))

    def count(self, status: str) -> int:
        """Number of files with a status: ``ok``, ``failed`` or ``skipped``."""
        return len({row["file"] for row in self.rows if row["status"] == status})

    def _finish(self, _engine: Engine) -> None:
        self._settle(0)
        self._end_thread()
        self.write()
        if self.count("ok") == 0:
            raise ValueError(f"{none_of(self.count('failed'))} be {self.done}; {self.path} says why.")
        logger.info(
            "%d %s%s; %d failed, %d skipped: %s",
            *(self.count("ok"), self.done, self.summary(), self.count("failed"), self.count("skipped"), self.path),
        )

    def summary(self) -> str:
        """Text that the last line of a run adds to the number of files."""
        return ""

    def _fail(self, _engine: Engine, error: BaseException) -> None:
        if self._thread is None:
            # The folder is not this run's.
            raise error
        self._end_thread()
        # What was found before a full disk, say, stays known.
        for file in self._waiting:
            if all(output.exception() is None for output in file.outputs):
                self.rows += file.rows
        self._waiting.clear()
        known = {row["file"] for row in self.rows}
        self.rows += [row for row in unfinished_rows(self.inputs) if row["file"] not in known]
        self.write()
        raise error

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
