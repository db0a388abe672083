"""Tables of the results of a run over files, and which files they name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..io.table import read_table

__all__ = ["PATHS", "REMEMBERED", "TABLES", "UNFINISHED", "named_files", "remembered", "result_rows"]

TABLES = ("findings.csv", "classes.csv", "report.csv")
FIRST_COLUMNS = {"file", "status", "reason"}
PATHS = ("mask", "overlay", "dicom_seg", "gradcam")  # columns that name files
UNFINISHED = "unfinished"  # status of an image until its run has ended
# Names the files of runs for other inputs, whose tables were replaced.
REMEMBERED = ".monai_kd_results.json"


def result_rows(table: Path) -> list[dict[str, Any]]:
    """The rows of a table of results.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no such table.
    """
    rows = read_table(table)
    if not rows or FIRST_COLUMNS - rows[0].keys():
        raise ValueError(f"{table} is no table of results.")
    return rows


def remembered(folder: Path) -> set[str]:
    """The files, relative to a folder, of earlier runs there whose tables were replaced."""
    try:
        return {str(name) for name in json.loads((folder / REMEMBERED).read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        return set()


def named_files(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """The files that were written for the images of a table, relative to its folder."""
    return {row[name] for row in rows for name in PATHS if row.get(name)}
