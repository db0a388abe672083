"""Paired comparison of how well two networks tell slices with a tumour from others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .auc import auc_of_resamples
from .bootstrap import resampled_interval
from .patients import grouped, slice_key
from .presence_shares import sensitivity_of_resamples, specificity_of_resamples

__all__ = ["PREFIX", "SHOWS_TUMOUR", "TRUTH", "paired_presence"]

PREFIX = "presence_"  # of the columns of ``slices.csv`` with the scores
TRUTH = "truth_area_mm2"
SHOWS_TUMOUR = "shows_tumour"  # in place of TRUTH, of slices without masks
SPECIFICITIES = (0.85, 0.9, 0.95)
SENSITIVITIES = (0.9,)


def _shows_tumour(row: Mapping[str, Any]) -> bool | None:
    if SHOWS_TUMOUR in row:
        return bool(row[SHOWS_TUMOUR])
    return None if row.get(TRUTH) is None else row[TRUTH] > 0


def paired_presence(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], resamples: int = 2000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Differences of AUC, of sensitivity at equal specificity and the reverse, of two evaluations of the same slices.

    Each network has the threshold that gives the specificity, or the sensitivity, on these slices. Intervals are by the
    bootstrap over patients, the same of both networks, with thresholds chosen anew.

    Args:
        first, second: slices of two evaluations, as returned by `read_slices`, with ``presence_<score>``, and
            ``truth_area_mm2`` or, true or false, ``shows_tumour``.
        resamples, seed: as for `bootstrap_interval`.

    Returns:
        For each score that both have, ``auc <score>``, ``sensitivity at <specificity>, <score>`` and ``specificity at
        sensitivity <sensitivity>, <score>``: ``slices``, ``first``, ``second``, ``difference`` and ``interval_95`` (or
        ``None``); ``p_value`` and ``better`` are
        ``None``. Nothing without tumour-free slices or without slices with a tumour.

    Example:
        >>> rows = [{"image": str(i), "group": str(i), "truth_area_mm2": float(i % 2)} for i in range(8)]
        >>> a = [{**row, "presence_max": 0.5} for row in rows]
        >>> b = [{**row, "presence_max": row["truth_area_mm2"]} for row in rows]
        >>> found = paired_presence(a, b)["auc max"]
        >>> found["first"], found["second"], found["interval_95"]
        (0.5, 1.0, [0.5, 0.5])
    """
    other = {slice_key(row): row for row in second}
    pairs = [(row, other[slice_key(row)]) for row in first]
    members = [np.array(own) for own in grouped(range(len(pairs)), lambda i: str(pairs[i][0]["group"])).values()]
    found: dict[str, dict[str, Any]] = {}
    for column in [name for name in (first[0] if first else ()) if name.startswith(PREFIX)]:
        if any(row.get(column) is None or _shows_tumour(row) is None for pair in pairs for row in pair):
            continue
        present = np.array([_shows_tumour(row) for row, _ in pairs])
        if present.all() or not present.any():
            continue
        scores = [np.array([pair[which][column] for pair in pairs]) for which in (0, 1)]
        kind = column.removeprefix(PREFIX)
        statistics = {f"auc {kind}": [auc_of_resamples(each, present, members) for each in scores]}
        for specificity in SPECIFICITIES:
            statistics[f"sensitivity at {specificity:g}, {kind}"] = [
                sensitivity_of_resamples(specificity, each, present, members) for each in scores
            ]
        for sensitivity in SENSITIVITIES:
            statistics[f"specificity at sensitivity {sensitivity:g}, {kind}"] = [
                specificity_of_resamples(sensitivity, each, present, members) for each in scores
            ]
        for name, (one, two) in statistics.items():
            found[name] = {"slices": len(pairs), **_difference(one, two, len(members), resamples, seed)}
    return found


def _difference(
    one: Callable[[np.ndarray], np.ndarray],
    two: Callable[[np.ndarray], np.ndarray],
    patients: int,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    once = np.ones((1, patients))
    first, second = float(one(once)[0]), float(two(once)[0])
    interval = resampled_interval(patients, resamples, seed, lambda times: two(times) - one(times))
    return {
        **{"first": first, "second": second, "difference": second - first},
        **{"interval_95": None if interval is None else list(interval), "p_value": None, "better": None},
    }
