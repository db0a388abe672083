"""Slices of one patient, put together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["grouped", "joined"]

Row = Mapping[str, Any]
Key = TypeVar("Key", bound=Hashable)


def grouped(rows: Sequence[Row], of: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    """The rows by what ``of`` says of them, in the order in which it is first said."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(of(row), []).append(row)
    return groups


def joined(rows: Sequence[Row], column: str) -> str:
    """What the rows have in a column, each value once, sorted."""
    return ";".join(sorted({str(row[column]) for row in rows}))
