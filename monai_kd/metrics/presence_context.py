"""Presence scores of the slices of a volume, seen together with their neighbours."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from .presence import log_odds

__all__ = ["presence_in_context"]

# What a tumour should reach over, between the centres of its slices: slices of 1 mm show nearly the same as their
# neighbours, and so the same errors.
EXTENT_MM = 5.0
# Slices with a wider gap between them are no neighbours.
WIDEST_MM = 15.0
# Positions are read from headers and added up: 5 slices of 1 mm need not be 5 mm to the last digit.
TOLERANCE_MM = 1e-3


def presence_in_context(scores: np.ndarray, positions: np.ndarray, weight: float = 1.0) -> np.ndarray:
    r"""Scores that are lower where the tumour would reach over too few slices.

    A run is a row of neighbouring slices that reaches over 5 mm or more, from centre to centre; neighbours are at most
    15 mm apart. With :math:`n` the highest of the lowest scores of all runs that a slice is part of, a grey-scale
    opening of the scores, and the weight :math:`w`,

    .. math:: \operatorname{logit} s' = \frac{\operatorname{logit} s + w \operatorname{logit} n}{1 + w}

    Since :math:`n \le s`, no score rises: a slice beside a tumour gets no tumour by it. Of slices of 5 mm and more, n
    is the score of the better one of both neighbours, where it is lower. A slice without a run keeps its score.

    Args:
        scores: (Z,), each from 0 to 1, see `presence_score`.
        positions: (Z,), where each slice lies along their normal, in mm, rising or falling; NaN where it is not known:
            then two neighbours are a run.
        weight: of the neighbours, from 0, which changes nothing, to 1.

    Returns:
        (Z,)

    Raises:
        ValueError: the weight is not in 0 … 1, or the lengths differ.

    Example:
        >>> presence_in_context(np.array([0.1, 0.9, 0.1, 0.9, 0.95]), 6.5 * np.arange(5)).round(3)
        array([0.1  , 0.5  , 0.1  , 0.9  , 0.929])
    """
    own, places = np.asarray(scores, dtype=float), np.asarray(positions, dtype=float)
    if own.ndim != 1 or own.shape != places.shape:
        raise ValueError(f"scores and positions must be (Z,), got {own.shape} and {places.shape}.")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must lie between 0 and 1, got {weight}.")
    places = places if np.isfinite(places).all() else EXTENT_MM * np.arange(len(own))
    best = np.full(len(own), -1.0)
    for first, last in _shortest_runs(places):
        best[first : last + 1] = np.maximum(best[first : last + 1], own[first : last + 1].min())
    lower = (best >= 0) & (best < own) & (weight > 0)
    odds, others = log_odds(own), log_odds(best)
    return np.where(lower, expit((odds + weight * others) / (1 + weight)), own)


def _shortest_runs(positions: np.ndarray) -> set[tuple[int, int]]:
    """First and last slice of the shortest run that begins, and of the shortest one that ends, at each slice."""
    gaps = np.abs(np.diff(positions))
    along = np.concatenate([[0.0], gaps.cumsum()])
    # Runs do not cross these.
    part = np.concatenate([[0], (gaps > WIDEST_MM + TOLERANCE_MM).cumsum()])
    far = EXTENT_MM - TOLERANCE_MM
    slices = np.arange(len(positions))
    pairs = {*zip(slices, np.searchsorted(along, along + far), strict=True)}
    pairs |= {*zip(np.searchsorted(along, along - far, side="right") - 1, slices, strict=True)}
    return {(int(a), int(b)) for a, b in pairs if a >= 0 and b < len(positions) and part[a] == part[b]}
