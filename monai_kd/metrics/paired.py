"""Paired comparison of two networks on the same slices, or volumes."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..io.table import read_table
from .bootstrap import bootstrap_interval
from .class_summary import PROBABILITY
from .masks import OVERLAP, SIZES, sizes_of
from .paired_presence import PREFIX
from .patients import grouped, slice_key
from .sign_flip import sign_flip_p_value
from .summary import counts
from .tables import text_table

__all__ = ["check_same_data", "notes_of", "paired_differences", "paired_table", "read_slices"]

logger = logging.getLogger(__name__)

COMPARED: tuple[str, ...] = (*OVERLAP, "correct")
"""Columns that are compared: the metrics of a segmentation, or ``correct`` of a classification.

For a segmentation of several classes, ``<metric>_<class>`` too.
"""

TABLES = ("slices.csv", "volumes.csv")
"""What an evaluation writes, with a row for each slice, or each volume."""

_YES_NO = {"True": 1.0, "False": 0.0}


def read_slices(evaluation: str | Path) -> list[dict[str, Any]]:
    """The slices of an evaluation, with the compared columns as numbers, or ``None`` where they are undefined.

    Args:
        evaluation: folder that ``evaluate.json`` wrote, or its ``slices.csv`` or ``volumes.csv``.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: the table can't be read, lacks a column, has no slices, or has a cell that is not a number.
    """
    path = _table(evaluation)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give a folder that evaluate.json wrote.")
    try:
        rows = read_table(path)
    except ValueError as error:
        raise ValueError(f"{error} Evaluate again.") from error
    missing = [name for name in ("image", "group") if not rows or name not in rows[0]]
    if missing:
        raise ValueError(f"{path} is not a table of slices: it has no {' and no '.join(missing)}.")
    for number, row in enumerate(rows, 1):
        for name in (*_compared(rows[0]), *filter(_is_number, rows[0])):
            try:
                row[name] = float(row[name]) if name.startswith(PROBABILITY) else _value(row[name])
            except (TypeError, ValueError) as error:
                cell = "missing" if row[name] is None else f"'{row[name]}', which is not a number"
                raise ValueError(f"{path}: {name} of slice {number} is {cell}; evaluate again.") from error
    return rows


def _metric(column: str) -> str | None:
    """The metric of `COMPARED` in a column, over all classes or of one class; ``None`` for other columns."""
    return next((metric for metric in COMPARED if column == metric or column.startswith(f"{metric}_")), None)


def _is_number(column: str) -> bool:
    return column in SIZES or column.startswith((PREFIX, PROBABILITY))


def _compared(row: Mapping[str, Any]) -> list[str]:
    """The compared columns: first those over all classes, in the order of `COMPARED`, then those of each class."""
    return [
        *(name for name in COMPARED if name in row),
        *(name for name in row if name not in COMPARED and _metric(name)),
    ]


def _table(evaluation: str | Path) -> Path:
    path = Path(evaluation).expanduser()
    if not path.is_dir():
        return path
    return next((file for name in TABLES if (file := path / name).is_file()), path / TABLES[0])


def _value(cell: str) -> float | None:
    value = None if cell == "" else _YES_NO[cell] if cell in _YES_NO else float(cell)
    if value is not None and not math.isfinite(value):
        raise ValueError("not finite")
    return value


def check_same_data(first: str | Path, second: str | Path) -> None:
    """Refuse evaluations of different data sets, whose slices may have the same names.

    ``metrics.json`` beside each table has the SHA-256 of the data list; where it is missing, nothing is checked, which
    is logged as a warning. With the same data list, slices of the same name are the same, in whichever folds they were
    evaluated.

    Args:
        first, second: as for `read_slices`.

    Raises:
        ValueError: the data lists differ, or a ``metrics.json`` was not written by an evaluation.
    """
    one, other = (_datalist(_table(evaluation).with_name("metrics.json")) for evaluation in (first, second))
    if one and other and one != other:
        raise ValueError(
            f"the evaluations {first} and {second} are of different data sets, or the data list changed in between: "
            "evaluate both networks on the same data set."
        )


def _datalist(metrics: Path) -> str | None:
    if not metrics.is_file():
        logger.warning("%s is missing: whether both evaluations are of the same data is NOT checked.", metrics)
        return None
    with _written(metrics) as found:
        return found["dataset"]["datalist_sha256"]


def notes_of(evaluation: str | Path) -> list[str]:
    """What an evaluation says of its own worth, such as that its slices are drawn, or were trained on.

    Args:
        evaluation: as for `read_slices`.

    Returns:
        The ``notes`` of its ``metrics.json``; empty where there is no such file.

    Raises:
        ValueError: ``metrics.json`` was not written by an evaluation.
    """
    metrics = _table(evaluation).with_name("metrics.json")
    if not metrics.is_file():
        return []
    with _written(metrics) as found:
        return [str(note) for note in found.get("notes", [])]


@contextmanager
def _written(metrics: Path) -> Iterator[Any]:
    try:
        yield json.loads(metrics.read_text(encoding="utf-8"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{metrics} was not written by an evaluation ({error!r}); evaluate again.") from error


def paired_differences(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], resamples: int = 2000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    r"""Mean paired difference of every metric over the slices, second minus first.

    Most of the variation between slices is common to both networks and cancels, so that the interval is much narrower
    than the intervals of the two means. It is the interval of the mean of the differences :math:`d_i` of slices i by
    the bootstrap over patients, see `bootstrap_interval`.

    Args:
        first, second: slices of two evaluations of the same images, as returned by `read_slices`.
        resamples, seed: as for `bootstrap_interval`.

    Returns:
        For each metric that both have, over all classes and of each class: ``slices`` (the number of slices on which
        both define it), ``first`` and ``second`` (the means over these slices), ``difference``, ``interval_95`` (or
        ``None``), ``p_value`` (or ``None``), see `sign_flip_p_value`, and ``better``, the share of slices on which the
        second is better; a distance is better if smaller.

    Raises:
        ValueError: the evaluations are of different images or of different masks, as with other values of
            ``negative_share``, or have no metric in common.

    Example:
        >>> a = [{"image": str(i), "group": str(i), "dice": 0.5} for i in range(4)]
        >>> b = [{**row, "dice": 0.75} for row in a]
        >>> found = paired_differences(a, b)["dice"]
        >>> found["difference"], found["interval_95"], found["better"]
        (0.25, [0.25, 0.25], 1.0)
    """
    one, other = ({slice_key(row): row for row in rows} for rows in (first, second))
    if one.keys() != other.keys():
        apart = sorted(one.keys() ^ other.keys())
        raise ValueError(f"the evaluations are of different slices: {len(apart)} are in one only, such as {apart[0]}.")
    areas = {image: (_truth(row), _truth(other[image])) for image, row in one.items()}
    if apart := sorted(image for image, both in areas.items() if None not in both and both[0] != both[1]):
        raise ValueError(
            f"the evaluations are of different masks: {len(apart)} of the {len(one)} have a tumour of another size, "
            f"such as {apart[0]}. Evaluate both networks with the same negative_share."
        )
    found = {}
    for metric in _compared(first[0]) if first else ():
        pairs = [
            (row["group"], a, b)
            for image, row in one.items()
            if _truth(row) is None or counts(row, metric)
            if (a := row.get(metric)) is not None and (b := other[image].get(metric)) is not None
        ]
        if not pairs:
            continue
        groups = grouped(pairs, lambda pair: str(pair[0]))
        differences = np.array([b - a for _, a, b in pairs])
        totals = [sum(b - a for _, a, b in own) for own in groups.values()]
        interval = bootstrap_interval(totals, [len(own) for own in groups.values()], resamples, seed)
        towards = -1 if OVERLAP.get(_metric(metric) or metric) else 1
        found[metric] = {
            "slices": len(pairs),
            "first": float(np.mean([a for _, a, _ in pairs])),
            "second": float(np.mean([b for _, _, b in pairs])),
            "difference": float(differences.mean()),
            "interval_95": None if interval is None else list(interval),
            "p_value": sign_flip_p_value(totals, resamples, seed),
            "better": float((differences * towards > 0).mean()),
        }
    if not found:
        raise ValueError(f"the evaluations have no metric in common; compared are {', '.join(COMPARED)}.")
    return found


def _truth(row: Mapping[str, Any]) -> float | None:
    """The size of the tumour; ``None`` of a classification."""
    size: float | None = row.get(sizes_of(row)[0])
    return size


def paired_table(differences: Mapping[str, Mapping[str, Any]], of: str = "slices") -> str:
    """Text table of the result of `paired_differences`, of slices or of ``"volumes"``, and how to read it."""
    lines = [["", of, "first", "second", "difference [95 % over patients]", "p", "second better on"]]
    for metric, entry in differences.items():
        interval = entry["interval_95"]
        better = "" if entry["better"] is None else f"{100 * entry['better']:.0f} %"
        text = f"{entry['difference']:+.3f}"
        if interval is not None:
            text += f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
        means = [f"{entry[name]:.3f}" for name in ("first", "second")]
        p_value = "" if entry["p_value"] is None else f"{entry['p_value']:.4f}"
        lines.append([metric, str(entry["slices"]), *means, text, p_value, better])
    legend = ["difference: second − first."]
    if any(OVERLAP.get(_metric(metric) or metric) for metric in differences):
        legend.append("Of a distance (mm), less is better.")
    if any(entry["p_value"] is not None for entry in differences.values()):
        legend.append(
            "The interval is by the bootstrap, p by changes of sign: near 0.05, one may exclude 0 and the other not."
        )
    return f"{text_table(lines)}\n\n{' '.join(legend)}"
