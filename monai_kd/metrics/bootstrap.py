"""How far a mean could be off because other patients might have been in the sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "drawn_patients"]

# Bounds the memory for the drawn patient numbers, whatever the number of resamples.
_DRAWN_AT_ONCE = 2_000_000


def drawn_patients(patients: int, resamples: int, seed: int, at_once: int) -> Iterator[NDArray[np.int64]]:
    """Draw as many patients as there are, with replacement, again and again.

    Args:
        patients: how many there are.
        resamples: how many times to draw.
        seed: equal seeds draw the same patients, whatever ``at_once`` is.
        at_once: number of resamples to return together.

    Yields:
        (at most ``at_once``, ``patients``), numbers of patients from 0, a resample a row.
    """
    generator = np.random.default_rng(seed)
    for first in range(0, resamples, at_once):
        yield generator.integers(patients, size=(min(at_once, resamples - first), patients))


def bootstrap_interval(
    totals: Sequence[float], weights: Sequence[float], resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float] | None:
    r"""Percentile interval of a mean, by drawing whole patients with replacement.

    Slices of one patient resemble each other, so that drawing slices would make the interval too narrow. Of patient i,
    :math:`s_i` is the total of the values and :math:`n_i` their number; of the numbers :math:`i_1 … i_N` drawn in
    resample b,

    .. math:: m_b = \frac{\sum_k s_{i_k}}{\sum_k n_{i_k}}

    and the interval reaches from the (1 − level)/2 to the (1 + level)/2 quantile of m. With totals and numbers of
    slices it belongs to the mean over slices (the cluster bootstrap); with patient means and weights of 1, to the mean
    over patients.

    Args:
        totals: one number a patient.
        weights: one positive number a patient.
        resamples: how many times to draw; 0 for no interval.
        seed: equal seeds give equal intervals, and draw the same patients for every metric.
        level: between 0 and 1.

    Returns:
        Lower and upper end; ``None`` without resamples, and for fewer than two patients, from whom nothing can be said
        about others.

    Raises:
        ValueError: numbers of totals and weights differ, a weight is not positive, or a value is not finite.

    Example:
        >>> bootstrap_interval([0.8, 0.8, 0.8], [1, 1, 1], resamples=100, seed=0)
        (0.8, 0.8)
    """
    total, weight = np.asarray(totals, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if total.ndim != 1 or total.shape != weight.shape:
        raise ValueError(f"one total and one weight a patient, got {total.shape} and {weight.shape}.")
    if not (np.isfinite(total).all() and np.isfinite(weight).all() and (weight > 0).all()):
        raise ValueError("totals must be finite, weights finite and positive.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}.")
    patients = len(total)
    if resamples < 1 or patients < 2:
        return None
    at_once = max(1, _DRAWN_AT_ONCE // patients)
    means = [
        total[drawn].sum(axis=1) / weight[drawn].sum(axis=1)
        for drawn in drawn_patients(patients, resamples, seed, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    # Sums of equal numbers differ in the last digit with the order of drawing: an interval never excludes all values.
    bounds = (total / weight).min(), (total / weight).max()
    return float(np.clip(low, *bounds)), float(np.clip(high, *bounds))
