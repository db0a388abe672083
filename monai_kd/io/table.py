"""CSV tables without text that spreadsheets would run, which are read back unchanged."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.text import as_cell, from_cell

from .atomic import atomic_write

__all__ = ["as_text", "read_table", "write_table"]


def write_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], path: str | Path) -> None:
    """Write rows as CSV, atomically; see `as_cell` for how text is escaped.

    Args:
        rows: column to value; ``None`` and missing values become empty cells. Bytes of file names that can't be decoded
            become question marks.
        columns: their order.
        path: the file.

    Raises:
        ValueError: a row has another column.
    """
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [_cell(name) for name in columns], lineterminator="\n")
        table.writeheader()
        table.writerows({_cell(name): _cell(value) for name, value in row.items()} for row in rows)


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a table that `write_table` wrote, each cell as text; ``None`` where a row ends too early.

    Raises:
        OSError: the file can't be read.
        ValueError: it is not a CSV table.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [
                {from_cell(name): cell if cell is None else from_cell(cell) for name, cell in row.items() if name}
                for row in csv.DictReader(file)
            ]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} can't be read as a table ({error}).") from error


def as_text(name: str) -> str:
    """A file name as it appears in a table: with question marks for bytes that can't be decoded.

    Example:
        >>> as_text("caf\\udce9.png")
        'caf?.png'
    """
    return name.encode("utf-8", "replace").decode("utf-8")


def _cell(value: Any) -> Any:
    return as_cell(as_text(value)) if isinstance(value, str) else value
