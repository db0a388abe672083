"""From the masks of single slices or volumes to one row a patient, and to means with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .bootstrap import bootstrap_interval
from .masks import SIZES, class_columns, metrics_of, sizes_of
from .patients import grouped, joined

__all__ = ["counts", "is_missed", "mask_patient_rows", "summarise_masks"]

Row = Mapping[str, Any]


def is_missed(row: Row, ending: str = "") -> bool:
    """Whether a slice has a tumour and no prediction, for the class whose columns have the suffix ``ending``."""
    truth, predicted = sizes_of(row)
    return row[truth + ending] > 0 and row[predicted + ending] == 0


def _patient(row: Row) -> str:
    return str(row["group"])


def counts(row: Row, metric: str) -> bool:
    """Whether a slice counts for a metric; without a tumour for sizes alone, as Dice is 0 or undefined by chance."""
    return metric.startswith(SIZES) or row[sizes_of(row)[0]] > 0


def _defined(rows: Sequence[Row], metric: str) -> list[float]:
    return [row[metric] for row in rows if row[metric] is not None and counts(row, metric)]


def mask_patient_rows(
    rows: Sequence[Row], mask_names: Sequence[str] = ("tumour",), of: str = "slices"
) -> list[dict[str, Any]]:
    """Mean of every metric over the slices of each patient on which it is defined.

    Overlap and distances are those of slices with a tumour; what is marked on others is in `summarise_presence`.

    A patient is a ``group`` of the data list: patient numbers that differ only by a trailing letter may belong to one
    person, and are in one group.

    Args:
        rows: one for each slice, with ``group``, ``patient``, ``class_name``, ``fold`` and the values of
            `masks_metrics`.
        mask_names: names of the segmented classes.
        of: what the rows are, ``"slices"`` or ``"volumes"``, which names their number.

    Returns:
        One row for each patient: ``group``, ``patients`` and ``class_names`` (joined by ``;``), ``fold``, ``slices``,
        ``missed_tumours``, and the metrics, ``None`` where a metric is undefined on all slices. For several classes,
        ``missed_tumours`` counts slices on which no class was predicted, and the columns ``missed_tumours_<class>`` and
        ``<metric>_<class>`` of each class follow.
    """
    result = []
    for group, members in grouped(rows, _patient).items():
        row: dict[str, Any] = {
            "group": group,
            "patients": joined(members, "patient"),
            "class_names": joined(members, "class_name"),
            "fold": joined(members, "fold"),
            of: len(members),
        }
        for ending in ("", *class_columns(mask_names).values()):
            row[f"missed_tumours{ending}"] = sum(is_missed(slice_, ending) for slice_ in members)
            for metric in metrics_of(members[0]):
                values = _defined(members, metric + ending)
                row[metric + ending] = float(np.mean(values)) if values else None
        result.append(row)
    return result


def summarise_masks(
    rows: Sequence[Row], resamples: int, seed: int, mask_names: Sequence[str] = ("tumour",), of: str = "slices"
) -> dict[str, Any]:
    """Mean and 95 % bootstrap interval of every metric, over slices and over patients; overall and by class.

    Overlap and distances are those of slices with a tumour; what is marked on others is in `summarise_presence`.

    Args:
        rows: one for each slice, as for `mask_patient_rows`.
        resamples: number of resamples of the bootstrap over patients, see `bootstrap_interval`; 0 for no intervals.
        seed: seed of the bootstrap.
        mask_names: names of the segmented classes.
        of: what the rows are, ``"slices"`` or ``"volumes"``, in whose place the latter then stands below.

    Returns:
        ``{"overall": part, "classes": {class name: part}}``, where ``classes`` are those of the slices in the data
        list. For several segmented classes, ``overall`` is over these classes, see `masks_metrics`, and ``"masks":
        {mask name: part}`` has each of them over all slices. A part has the numbers of ``slices``, ``patients`` and
        ``missed_tumours``, and in ``metrics`` for each metric its ``unit``, ``over_slices`` and ``over_patients``. Each
        of the last two has ``mean``, ``interval_95`` (both may be ``None``), and ``defined`` and ``undefined``, the
        numbers of slices or patients with and without a value.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError(f"there are no {of} to summarise.")
    names = [name for _, name in sorted({(row["class"], row["class_name"]) for row in rows})]
    summary = {
        "overall": _part(rows, resamples, seed, of),
        "classes": {
            name: _part([row for row in rows if row["class_name"] == name], resamples, seed, of) for name in names
        },
    }
    if endings := class_columns(mask_names):
        summary["masks"] = {name: _part(rows, resamples, seed, of, ending) for name, ending in endings.items()}
    return summary


def _part(rows: Sequence[Row], resamples: int, seed: int, of: str, ending: str = "") -> dict[str, Any]:
    groups = list(grouped(rows, _patient).values())
    metrics = {}
    for metric, unit in metrics_of(rows[0] if rows else {}).items():
        values = [own for own in (_defined(group, metric + ending) for group in groups) if own]
        totals, counts = [sum(own) for own in values], [len(own) for own in values]
        means = [float(np.mean(own)) for own in values]
        metrics[metric] = {
            "unit": unit,
            f"over_{of}": _mean(totals, counts, len(rows) - sum(counts), resamples, seed),
            "over_patients": _mean(means, [1] * len(means), len(groups) - len(means), resamples, seed),
        }
    return {
        of: len(rows),
        "patients": len(groups),
        "missed_tumours": sum(is_missed(row, ending) for row in rows),
        "metrics": metrics,
    }


def _mean(totals: list[float], weights: list[int], undefined: int, resamples: int, seed: int) -> dict[str, Any]:
    interval = bootstrap_interval(totals, weights, resamples, seed)
    return {
        "mean": sum(totals) / sum(weights) if weights else None,
        "interval_95": None if interval is None else list(interval),
        "defined": sum(weights),
        "undefined": undefined,
    }
