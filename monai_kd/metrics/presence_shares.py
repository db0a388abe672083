"""Sensitivity at a specificity, and specificity at a sensitivity, of resampled patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["sensitivity_of_resamples", "specificity_of_resamples"]

_Statistic = Callable[[np.ndarray], np.ndarray]


def sensitivity_of_resamples(
    specificity: float, scores: np.ndarray, present: np.ndarray, members: Sequence[np.ndarray]
) -> _Statistic:
    """Sensitivity by slice at the lowest threshold with at least a specificity, which is chosen anew in each resample.

    Args:
        specificity: share of the slices without a tumour that must not be marked.
        scores: (N,), the presence score of each slice.
        present: (N,), whether a slice has a tumour.
        members: for each of P patients the numbers of its slices.

    Returns:
        A function of the numbers of times, (B, P), that each patient is taken, with the sensitivities, (B,); NaN where
        there are no slices with, or none without, a tumour.
    """
    falling, free, ill = _parts(scores, ~present, present, members)

    def sensitivity(times: np.ndarray) -> float:
        free_times, ill_times = times[free], times[ill]
        if not free_times.sum() or not ill_times.sum():
            return np.nan
        # The highest score of a slice without a tumour that must not be marked.
        first = int(np.argmax(np.cumsum(free_times) / free_times.sum() > 1 - specificity + 1e-12))
        return float(ill_times[scores[present] > falling[first]].sum() / ill_times.sum())

    return lambda times: np.array([sensitivity(each) for each in times])


def specificity_of_resamples(
    sensitivity: float, scores: np.ndarray, present: np.ndarray, members: Sequence[np.ndarray]
) -> _Statistic:
    """Specificity by slice at the highest threshold with at least a sensitivity, which is chosen anew in each resample.

    Args:
        sensitivity: share of the slices with a tumour that must be marked.
        scores, present, members: as for `sensitivity_of_resamples`.

    Returns:
        A function as that of `sensitivity_of_resamples`, with the specificities.
    """
    falling, ill, free = _parts(scores, present, ~present, members)

    def specificity(times: np.ndarray) -> float:
        ill_times, free_times = times[ill], times[free]
        if not ill_times.sum() or not free_times.sum():
            return np.nan
        # The highest score of a slice with a tumour down to which enough of them are marked.
        last = int(np.argmax(np.cumsum(ill_times) / ill_times.sum() >= sensitivity - 1e-12))
        return float(free_times[scores[~present] < falling[last]].sum() / free_times.sum())

    return lambda times: np.array([specificity(each) for each in times])


def _parts(
    scores: np.ndarray, sorted_ones: np.ndarray, others: np.ndarray, members: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The scores of some slices from the highest down, their patients, and the patients of the other slices."""
    owner = np.empty(len(scores), dtype=int)
    for number, own in enumerate(members):
        owner[own] = number
    order = np.argsort(-scores[sorted_ones], kind="stable")
    return scores[sorted_ones][order], owner[sorted_ones][order], owner[others]
