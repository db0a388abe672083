"""The lists in a data set folder: `datalist.json` for programs, the manifest `conversion.csv` for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data_prep.matfile import CLASSES
from data_prep.text import as_cell, from_cell
from data_prep.worker import OK, Row, is_converted, output_files
from data_prep.writers import PNG_MASK_VALUE, SPACING, write_file

DATALIST, DATALIST_PNG, MANIFEST = "datalist.json", "datalist_png.json", "conversion.csv"
COLUMNS = (
    *("file", "status", "reason", "id", "label", "class_name", "pid", "group", "fold", "rows", "cols"),
    *("min", "max", "mask_area_mm2", "synthetic", "stamp"),
)


class DatasetError(Exception):
    """A list in the data set folder is damaged, was written by another program, or belongs to another source."""


def write_manifest(dst: Path, rows: Iterable[Row]) -> None:
    """Write `conversion.csv`, with one row for each input file."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: as_cell(value) for name, value in row.items()} for row in rows)
    write_file(dst / MANIFEST, text.getvalue())


def read_manifest(dst: Path) -> list[Row]:
    """Rows of an earlier conversion; none where there is no manifest.

    Raises:
        DatasetError: the manifest is damaged, or was written by another program.
    """
    path = dst / MANIFEST
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [{key: from_cell(row[key]) for key in COLUMNS if row.get(key)} for row in csv.DictReader(file)]
    except (ValueError, csv.Error):
        raise _foreign(path) from None
    if not all("status" in row and (row["status"] != OK or is_converted(row)) for row in rows):
        raise _foreign(path)
    return rows


def read_settings(dst: Path) -> dict[str, object] | None:
    """Settings of an earlier conversion; None where there was none.

    Raises:
        DatasetError: the data list is damaged, or was written by another program.
    """
    path = dst / DATALIST
    if not path.exists():
        return None
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _foreign(path) from None
    if not isinstance(settings, dict):
        raise _foreign(path)
    return settings


def _foreign(path: Path) -> DatasetError:
    return DatasetError(
        f"{path} is damaged, or was not written by data_prep: convert into another folder, or move this file away"
    )


def write_datalists(dst: Path, rows: Sequence[Row], settings: dict[str, object], how_folds: str) -> Path:
    """Write `datalist.json` in MONAI's decathlon style and, for the format "both", `datalist_png.json` beside it."""
    slices = [row for row in rows if row["status"] == OK]
    synthetic = slices[0]["synthetic"] == "yes"
    kinds = len(output_files("", str(settings["format"])))
    for kind, name in zip(range(kinds), (DATALIST, DATALIST_PNG), strict=False):
        entries = []
        for row in slices:
            image, label = output_files(row["id"], str(settings["format"]))[kind]
            entries.append(
                {
                    "image": image,
                    "label": label,
                    "class": int(row["label"]) - 1,
                    "patient": row["pid"],
                    "group": row["group"],
                    "fold": int(row["fold"]),
                    "source": row["file"],
                }
            )
        top = {
            "name": "phantom slices" if synthetic else "brain tumour slices",
            "description": (
                "Synthetic phantom slices made by data_prep phantom. No patient is in them; results on them say "
                "nothing about real images."
                if synthetic
                else "T1-weighted contrast-enhanced MRI slices converted from .mat files of the Figshare layout."
            ),
            "synthetic": synthetic,
            "labels": {str(number): text for number, text in CLASSES.items()},
            "spacing": list(SPACING),
            "mask_value": PNG_MASK_VALUE if image.endswith(".png") else 1,
            "folds": how_folds,
            "numTraining": len(entries),
            "settings": settings,
        }
        write_datalist(dst / name, top, entries)
    return dst / DATALIST


def write_datalist(path: Path, top: Mapping[str, object], entries: Sequence[Mapping[str, object]]) -> None:
    """Write a data list: its own values, and its slices, one to a line, so that people and `diff` can read it."""
    head = json.dumps(top, indent=1)[: -len("\n}")]
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
    write_file(path, f'{head},\n "training": [\n{lines}\n ]\n}}\n')
