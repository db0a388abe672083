"""The lists in a data set folder: `datalist.json` for programs, `conversion.csv` for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_prep.matfile import CLASSES
from data_prep.worker import OK, Row, output_files
from data_prep.writers import PNG_MASK_VALUE, SPACING, write_file

DATALIST, DATALIST_PNG, MANIFEST = "datalist.json", "datalist_png.json", "conversion.csv"
COLUMNS = (
    *("file", "status", "reason", "id", "label", "class_name", "pid", "group", "fold", "rows", "cols"),
    *("min", "max", "mask_area_mm2", "synthetic", "stamp"),
)


def write_manifest(dst: Path, rows: Iterable[Row]) -> None:
    """`conversion.csv`: a row for each input file."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_file(dst / MANIFEST, text.getvalue())


def read_manifest(dst: Path) -> list[Row]:
    """Rows of an earlier conversion; none where there is no manifest."""
    if not (dst / MANIFEST).exists():
        return []
    with open(dst / MANIFEST, newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def read_settings(dst: Path) -> dict[str, object] | None:
    """Settings of an earlier conversion, None where there was none."""
    path = dst / DATALIST
    return json.loads(path.read_text(encoding="utf-8"))["settings"] if path.exists() else None


def write_datalists(dst: Path, rows: Sequence[Row], settings: dict[str, object], how_folds: str) -> Path:
    """`datalist.json` in MONAI's decathlon style, and for the format "both" `datalist_png.json` beside it."""
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
        # One entry a line: small enough to read, and differences between two lists show.
        head = json.dumps(top, indent=1)[: -len("\n}")]
        lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
        write_file(dst / name, f'{head},\n "training": [\n{lines}\n ]\n}}\n')
    return dst / DATALIST
