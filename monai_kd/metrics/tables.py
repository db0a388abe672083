"""Results as CSV files and as text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..io.table import write_table

__all__ = ["mask_summary_table", "text_table", "write_rows"]


def write_rows(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write rows with the same columns as CSV, atomically; ``None`` becomes an empty cell.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError(f"there are no rows to write to {path}.")
    write_table(rows, list(rows[0]), path)


def text_table(lines: Sequence[Sequence[str]]) -> str:
    """Format lines with the same number of cells as a table with aligned columns.

    Example:
        >>> print(text_table([["", "mean"], ["dice", "0.8"]]))
              mean
        dice  0.8
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def mask_summary_table(summary: Mapping[str, Any]) -> str:
    """Text table of the result of `monai_kd.metrics.summarise_masks`, with metrics as rows.

    The columns are all slices, or volumes, and those of each class; for several segmented classes, the mean over these
    classes and each of them, over all slices.
    """
    if "masks" in summary:
        parts = {"over the classes": summary["overall"], **summary["masks"]}
    else:
        parts = {"all": summary["overall"], **summary["classes"]}
    lines = [["", *parts]]
    of = next(name for name in ("slices", "volumes") if name in summary["overall"])
    for count in (of, "patients", "missed_tumours"):
        lines.append([count.replace("_", " "), *(str(part[count]) for part in parts.values())])
    for over in (f"over_{of}", "over_patients"):
        lines.append([f"mean {over.replace('_', ' ')}", *("" for _ in parts)])
        for metric in summary["overall"]["metrics"]:
            lines.append([f"  {metric}", *(_cell(part["metrics"][metric], over) for part in parts.values())])
    legend = f"[95 % bootstrap interval over patients]  (number of {of} or patients without a value)"
    return f"{text_table(lines)}\n{legend}"


def _cell(entry: Mapping[str, Any], over: str) -> str:
    mean, interval, undefined = (entry[over][key] for key in ("mean", "interval_95", "undefined"))
    if mean is None:
        return f"undefined ({undefined})"
    digits = 1 if entry["unit"] == "mm²" else 2 if entry["unit"] else 3
    text = f"{mean:.{digits}f}"
    if interval is not None:
        text += f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return text + (f" ({undefined})" if undefined else "")
