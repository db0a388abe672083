"""Grouping of slices by patient."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["grouped", "joined"]

Row = Mapping[str, Any]
Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def slice_key(row: Mapping[str, Any]) -> str:
    """What tells a row of an evaluation from others: the image, and of a volume the number of the slice.

    Example:
        >>> slice_key({"image": "a.nii.gz"}), slice_key({"image": "v.nii.gz", "slice": 3})
        ('a.nii.gz', 'v.nii.gz, slice 3')
    """
    number = row.get("slice")
    return row["image"] if number is None or number == "" else f"{row['image']}, slice {number}"


def grouped(rows: Sequence[Item], of: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The rows by the value of ``of``, in the order of the first row with each value."""
    groups: dict[Key, list[Item]] = {}
    for row in rows:
        groups.setdefault(of(row), []).append(row)
    return groups


def joined(rows: Sequence[Row], column: str) -> str:
    """The distinct values in a column, sorted, as text joined by ``;``."""
    return ";".join(sorted({str(row[column]) for row in rows}))
