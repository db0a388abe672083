"""From the predicted classes of slices to rows for patients, and to metrics with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bootstrap import drawn_patients, percentile_interval
from .classes import (
    CLASS_METRICS,
    PER_CLASS_METRICS,
    class_metrics,
    confusion_matrix,
    per_class_metrics,
    weighted_class_metrics,
)
from .patients import grouped, joined
from .tables import text_table

__all__ = ["PROBABILITY", "class_patient_rows", "class_summary_table", "rows_of_kinds", "summarise_classes"]

Row = Mapping[str, Any]

# Bounds the memory for the weights of the slices, whatever the number of resamples.
_WEIGHTS_AT_ONCE = 2_000_000
PROBABILITY = "p_"  # of the columns of ``slices.csv`` with the probabilities of classes


def _names(row: Row) -> list[str]:
    return [column.removeprefix(PROBABILITY) for column in row if column.startswith(PROBABILITY)]


def _probabilities(rows: Sequence[Row], names: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[row[PROBABILITY + name] for name in names] for row in rows], dtype=np.float64)


def class_patient_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Mean probabilities over the slices of each patient, and the class with the highest mean.

    A patient is a ``group`` of the data list. A group with slices of several true classes has a row for each of them,
    since one predicted class could not be right for all.

    Args:
        rows: one for each slice, with ``group``, ``patient``, ``fold``, ``class``, ``class_name`` and a column
            ``p_<class name>`` for each class in the order of their numbers.

    Returns:
        One row for each group and class, in the order of the slices: ``group``, ``patients`` (joined by ``;``),
        ``fold``, ``class``, ``class_name``, ``slices``, ``predicted``, ``predicted_name``, ``correct`` and the mean of
        every ``p_<class name>``.

    Example:
        >>> slices = [
        ...     {"group": "7", "patient": "7", "fold": 0, "class": 0, "class_name": "a", "p_a": p, "p_b": 1 - p}
        ...     for p in (0.25, 1.0)
        ... ]
        >>> row = class_patient_rows(slices)[0]
        >>> row["slices"], row["p_a"], row["predicted_name"], row["correct"]
        (2, 0.625, 'a', True)
    """
    patients = grouped(rows, lambda row: (str(row["group"]), int(row["class"])))
    result = []
    for (group, number), members in patients.items():
        names = _names(members[0])
        mean = _probabilities(members, names).mean(axis=0)
        predicted = int(mean.argmax())
        result.append(
            {
                "group": group,
                "patients": joined(members, "patient"),
                "fold": joined(members, "fold"),
                "class": number,
                "class_name": members[0]["class_name"],
                "slices": len(members),
                "predicted": predicted,
                "predicted_name": names[predicted],
                "correct": predicted == number,
                **{PROBABILITY + name: float(value) for name, value in zip(names, mean, strict=True)},
            }
        )
    return result


def rows_of_kinds(rows: Sequence[Row], no_tumour: str) -> list[dict[str, Any]]:
    """The slices with a tumour, as a network says that is asked for the kind of the tumour alone.

    The probabilities of the other classes are divided by their sum, and the most probable of them is predicted. So a
    network that knows the class "no tumour" is compared with one that does not.

    Args:
        rows: one for each slice, as for `class_patient_rows`.
        no_tumour: name of the class.

    Returns:
        Rows with the numbers of the classes that are left, in the same order.

    Example:
        >>> row = {"class": 2, "class_name": "b", "p_a": 0.1, "p_none": 0.6, "p_b": 0.3, "predicted_name": "none"}
        >>> found = rows_of_kinds([row], "none")[0]
        >>> found["class"], found["predicted_name"], round(found["p_b"], 2), "p_none" in found
        (1, 'b', 0.75, False)
    """
    kept = [row for row in rows if row["class_name"] != no_tumour]
    names = [name for name in _names(rows[0]) if name != no_tumour] if rows else []
    found = []
    for row, own in zip(kept, _probabilities(kept, names), strict=True):
        # All may be 0 where "no tumour" is certain: then none is more probable than another.
        shares = own / own.sum() if own.sum() > 0 else np.full(len(own), 1 / len(own))
        predicted, number = names[int(shares.argmax())], names.index(row["class_name"])
        shown = {PROBABILITY + name: float(share) for name, share in zip(names, shares, strict=True)}
        others = {key: value for key, value in row.items() if not key.startswith(PROBABILITY)}
        own_class = {"class": number, "predicted": names.index(predicted), "predicted_name": predicted}
        found.append({**others, **own_class, "correct": predicted == row["class_name"], **shown})
    return found


def summarise_classes(rows: Sequence[Row], class_names: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    """Metrics of a classifier with 95 % bootstrap intervals, over slices and over patients.

    Slices of one patient are correlated, so whole groups are resampled: the same ones for both parts, and the same as
    by `bootstrap_interval` with as many patients. Resamples in which a metric is undefined are left out of its
    interval. The interval of ``ece`` tends to be above its value, because resampling adds noise to every bin, and the
    error is a sum of absolute values.

    Args:
        rows: one for each slice, as for `class_patient_rows`.
        class_names: in the order of the class numbers, including classes without slices.
        resamples: number of resamples of the bootstrap over groups; 0 for no intervals.
        seed: equal seeds give equal intervals.

    Returns:
        ``{"over_slices": part, "over_patients": part}``; the second is over the rows of `class_patient_rows`. A part
        has ``count``, the number of slices or patients; ``metrics``, for each of `CLASS_METRICS` its ``value`` and
        ``interval_95`` (both may be ``None``), ``undefined`` (the reason, or ``None``) and ``resamples_undefined`` (the
        number of them); ``classes``, for each name its ``count`` and `PER_CLASS_METRICS`; and ``confusion``, with true
        classes as rows and predicted classes as columns.

    Raises:
        ValueError: there are no rows, their columns ``p_<class name>`` are not ``class_names`` in that order, or as for
            `class_metrics`.
    """
    if not rows:
        raise ValueError("there are no slices to summarise.")
    if _names(rows[0]) != list(class_names):
        raise ValueError(
            f"the rows have probabilities of {_names(rows[0])}, which are not the classes {list(class_names)} in order."
        )
    return {
        "over_slices": _part(rows, class_names, resamples, seed),
        "over_patients": _part(class_patient_rows(rows), class_names, resamples, seed),
    }


def _part(rows: Sequence[Row], names: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    probabilities = _probabilities(rows, names)
    classes = np.array([row["class"] for row in rows])
    values = class_metrics(probabilities, classes)
    drawn = _resampled(probabilities, classes, [str(row["group"]) for row in rows], resamples, seed)
    confusion = confusion_matrix(classes, probabilities.argmax(axis=1), len(names))
    each = per_class_metrics(probabilities, classes)
    return {
        "count": len(rows),
        "metrics": {
            name: {
                "value": value,
                # Some resamples may lack the rows that make the metric undefined; they give no interval of these data.
                "interval_95": None if value is None else _interval(drawn[name]),
                "undefined": CLASS_METRICS[name] if value is None else None,
                "resamples_undefined": int(np.isnan(drawn[name]).sum()),
            }
            for name, value in values.items()
        },
        "classes": {
            name: {"count": int(count), **metrics}
            for name, count, metrics in zip(names, confusion.sum(axis=1), each, strict=True)
        },
        "confusion": confusion.tolist(),
    }


def _resampled(
    probabilities: NDArray, classes: NDArray, groups: Sequence[str], resamples: int, seed: int
) -> dict[str, NDArray[np.float64]]:
    """The values of `CLASS_METRICS` in each resample; empty for fewer than two groups."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group_of = np.array([numbers[group] for group in groups])
    count = len(numbers)
    found: dict[str, list[NDArray]] = {name: [np.empty(0)] for name in CLASS_METRICS}
    at_once = max(1, _WEIGHTS_AT_ONCE // len(groups))
    for drawn in drawn_patients(count, resamples if count > 1 else 0, seed, at_once):
        weights = np.stack([np.bincount(row, minlength=count)[group_of] for row in drawn])
        overall, _ = weighted_class_metrics(probabilities, classes, weights)
        for name, values in overall.items():
            found[name].append(values)
    return {name: np.concatenate(values) for name, values in found.items()}


def _interval(values: NDArray[np.float64]) -> list[float] | None:
    interval = percentile_interval(values)
    return None if interval is None else list(interval)


def class_summary_table(summary: Mapping[str, Any]) -> str:
    """Text table of the result of `summarise_classes`: rows of metrics and classes, columns of slices and patients."""
    parts = {name.replace("_", " "): summary[name] for name in ("over_slices", "over_patients")}
    lines = [["", *parts], ["count", *(str(part["count"]) for part in parts.values())]]
    lines += [[name, *(_cell(part["metrics"][name]) for part in parts.values())] for name in CLASS_METRICS]
    names = list(summary["over_slices"]["classes"])
    for row, name in enumerate(names):
        class_parts = [part["classes"][name] for part in parts.values()]
        lines.append([name, "", ""])
        lines.append(["  count", *(str(each["count"]) for each in class_parts)])
        lines += [["  " + metric, *(_number(each[metric]) for each in class_parts)] for metric in PER_CLASS_METRICS]
        for column, other in enumerate(names):
            counts = [str(part["confusion"][row][column]) for part in parts.values()]
            lines.append([f"  predicted as {other}", *counts])
    return f"{text_table(lines)}\n[95 % bootstrap interval over patients]  (number of resamples without a value)"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _cell(entry: Mapping[str, Any]) -> str:
    text = _number(entry["value"])
    if entry["undefined"]:
        return f"{text}: {entry['undefined']}"
    if entry["interval_95"]:
        text += " [{:.3f}, {:.3f}]".format(*entry["interval_95"])
    return text + (f" ({entry['resamples_undefined']})" if entry["resamples_undefined"] else "")
