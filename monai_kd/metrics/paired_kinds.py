"""Columns by which classifiers are compared of which one or both know the class "no tumour"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .class_summary import PROBABILITY, rows_of_kinds
from .paired_presence import PREFIX, SHOWS_TUMOUR
from .patients import slice_key

__all__ = ["with_kinds"]


def with_kinds(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], no_tumour: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two evaluations of classifiers, with what can be compared where one does not know the class "no tumour".

    Args:
        first, second: slices of two evaluations, as returned by `read_slices`.
        no_tumour: name of the class.

    Returns:
        The same slices. If one of the networks knows the class, they have ``correct_kinds``, whether the kind of the
        tumour is right among the kinds alone, see `rows_of_kinds`, ``None`` for slices without a tumour; and those of
        a network that knows the class ``presence_p_tumour``, 1 − P(no tumour), for `paired_presence`.

    Raises:
        ValueError: one evaluation is of a segmentation, and the other of a classification.
    """
    column = PROBABILITY + no_tumour
    if len({"correct" in row for rows in (first, second) for row in rows[:1]}) > 1:
        raise ValueError("one of the evaluations is of a segmentation, and the other of a classification.")
    if not any(column in row for rows in (first, second) for row in rows[:1]):
        return [dict(row) for row in first], [dict(row) for row in second]
    return _added(first, column, no_tumour), _added(second, column, no_tumour)


def _added(rows: Sequence[Mapping[str, Any]], column: str, no_tumour: str) -> list[dict[str, Any]]:
    right = {slice_key(row): float(row["correct"]) for row in rows_of_kinds(rows, no_tumour)}
    return [
        {**row, SHOWS_TUMOUR: row["class_name"] != no_tumour, "correct_kinds": right.get(slice_key(row))}
        | ({f"{PREFIX}p_tumour": 1 - row[column]} if column in row else {})
        for row in rows
    ]
