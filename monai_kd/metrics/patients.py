"""Grouping of slices by patient."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["grouped", "joined"]

Row = Mapping[str, Any]
Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def grouped(rows: Sequence[Item], of: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The rows by the value of ``of``, in the order of the first row with each value."""
    groups: dict[Key, list[Item]] = {}
    for row in rows:
        groups.setdefault(of(row), []).append(row)
    return groups


def joined(rows: Sequence[Row], column: str) -> str:
    """The distinct values in a column, sorted, as text joined by ``;``."""
    return ";".join(sorted({str(row[column]) for row in rows}))
