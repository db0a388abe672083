"""The threshold of a presence score, chosen for a specificity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["choose_operating_point", "roc_curve"]


def roc_curve(scores: Sequence[float], truth: Sequence[bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Receiver operating characteristic of "present if the score is at least the threshold".

    Args:
        scores: one for each slice.
        truth: whether each slice shows a tumour.

    Returns:
        Shares of marked slices without a tumour (1 - specificity) and with one (sensitivity), and the thresholds, from
        infinity down to the lowest score.

    Raises:
        ValueError: there are no slices with, or none without, a tumour; or the lengths differ.

    Example:
        >>> roc_curve([0.9, 0.4, 0.4, 0.1], [True, True, False, False])
        (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]), array([inf, 0.9, 0.4, 0.1]))
    """
    free, present, thresholds = _parts(scores, truth)
    if not len(free) or not len(present):
        raise ValueError("a curve needs slices with a tumour and slices without one.")
    return _marked(free, thresholds), _marked(present, thresholds), thresholds


def _parts(scores: Sequence[float], truth: Sequence[bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of the slices without and with a tumour, and the thresholds that tell scores apart, from infinity down."""
    score, present = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=bool)
    if score.ndim != 1 or score.shape != present.shape:
        raise ValueError(f"scores and truth must be (N,), got {score.shape} and {present.shape}.")
    return score[~present], score[present], np.concatenate([[math.inf], np.unique(score)[::-1]])


def _marked(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of scores that reach each threshold."""
    return (len(scores) - np.searchsorted(np.sort(scores), thresholds)) / len(scores)


def choose_operating_point(
    scores: Sequence[float], truth: Sequence[bool], specificity: float, kind: str, measured_on: str
) -> dict[str, Any]:
    """The lowest threshold of a presence score with at least a specificity on these slices.

    The threshold lies half way between two neighbouring scores, so that rounding does not move a slice across it.

    Args:
        scores: the presence score of each slice, see `presence_score`.
        truth: whether each slice shows a tumour.
        specificity: share of the slices without a tumour that must be below the threshold, 0 … 1.
        kind: name of the score.
        measured_on: description of the slices.

    Returns:
        ``score``, ``threshold``, ``specificity`` and ``sensitivity`` by slice on these slices (``None`` where none has
        a tumour), ``measured_on``.

    Raises:
        ValueError: the specificity is not in 0 … 1, there are no slices without a tumour, or no threshold up to 1 has
            the specificity, since too many slices without a tumour have a score of 1.

    Example:
        >>> truth = [True, True, True, False, False]
        >>> point = choose_operating_point([0.9, 0.7, 0.2, 0.5, 0.1], truth, 1.0, "max", "five slices")
        >>> point["threshold"], point["specificity"], round(point["sensitivity"], 3)
        (0.6, 1.0, 0.667)
    """
    if not 0 <= specificity <= 1:
        raise ValueError(f"specificity must lie between 0 and 1, got {specificity}.")
    free, present, thresholds = _parts(scores, truth)
    if not len(free):
        raise ValueError("a specificity needs slices without a tumour.")
    false = _marked(free, thresholds)
    # Shares are quotients: 1 - 0.95 must include 5 of 100.
    last = int(np.flatnonzero(false <= 1 - specificity + 1e-12)[-1])
    lower = thresholds[last + 1] if last + 1 < len(thresholds) else 0.0
    upper = min(thresholds[last], 1.0)
    if last == 0 and lower >= 1:
        raise ValueError(
            f"no threshold of the presence score '{kind}' has a specificity of {specificity:g}: too many slices "
            "without a tumour have a score of 1. Take another score, or train with negatives."
        )
    return {
        "score": kind,
        "threshold": float((lower + upper) / 2),
        "specificity": float(1 - false[last]),
        "sensitivity": float((present >= thresholds[last]).mean()) if len(present) else None,
        "measured_on": measured_on,
    }
