"""Bootstrap confidence intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "drawn_patients", "percentile_interval", "resampled_interval", "resampled_intervals"]

# Bounds the memory for the drawn patient numbers, whatever the number of resamples.
_DRAWN_AT_ONCE = 2_000_000
_COUNTED_AT_ONCE = 64


def drawn_patients(patients: int, resamples: int, seed: int, at_once: int) -> Iterator[NDArray[np.int64]]:
    """Draw bootstrap resamples of patients, with replacement.

    Args:
        patients: number of patients.
        resamples: number of resamples.
        seed: equal seeds draw the same patients, for any ``at_once``.
        at_once: number of resamples in one array.

    Yields:
        (at most ``at_once``, ``patients``), indices of patients from 0, one row for each resample.
    """
    generator = np.random.default_rng(seed)
    for first in range(0, resamples, at_once):
        yield generator.integers(patients, size=(min(at_once, resamples - first), patients))


def percentile_interval(values: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """From the (1 − level)/2 quantile to the (1 + level)/2 quantile of the values of resamples.

    Args:
        values: one for each resample; NaN, where it is undefined, is left out.
        level: confidence level, between 0 and 1.

    Returns:
        Lower and upper end; ``None`` if there is no value.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(
    totals: Sequence[float], weights: Sequence[float], resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float] | None:
    r"""Percentile bootstrap interval of a mean, with patients as the resampled units (cluster bootstrap).

    Slices of one patient are correlated, so that resampling slices would give intervals that are too narrow. For
    patient i, :math:`s_i` is the sum of the values and :math:`n_i` their number. With the indices :math:`i_1 … i_N` of
    the patients in resample b,

    .. math:: m_b = \frac{\sum_k s_{i_k}}{\sum_k n_{i_k}}

    and the interval is from the (1 − level)/2 quantile of m to the (1 + level)/2 quantile. With sums over slices and
    numbers of slices, it is the interval of the mean over slices; with patient means and weights of 1, of the mean over
    patients.

    Args:
        totals: :math:`s_i`, one number for each patient.
        weights: :math:`n_i`, one positive number for each patient.
        resamples: number of resamples; 0 for no interval.
        seed: equal seeds give equal intervals, and draw the same patients for every metric.
        level: confidence level, between 0 and 1.

    Returns:
        Lower and upper end; ``None`` without resamples, and for fewer than two patients, which do not determine an
        interval.

    Raises:
        ValueError: the numbers of totals and weights differ, a weight is not positive, or a value is not finite.

    Example:
        >>> bootstrap_interval([0.8, 0.8, 0.8], [1, 1, 1], resamples=100, seed=0)
        (0.8, 0.8)
    """
    total, weight = np.asarray(totals, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if total.ndim != 1 or total.shape != weight.shape:
        raise ValueError(
            f"totals and weights must be (N,), one of each for a patient, got {total.shape} and {weight.shape}."
        )
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
    # Rounding differs with the order of the sum: clipped, so that the interval of equal values contains them.
    return percentile_interval(np.concatenate(means).clip((total / weight).min(), (total / weight).max()), level)


def resampled_interval(
    patients: int, resamples: int, seed: int, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of any statistic, with patients as the resampled units.

    Args:
        patients: number of patients.
        resamples, seed: as for `bootstrap_interval`.
        statistic: of how often each patient is drawn, (B, patients) to (B,); NaN is left out.

    Returns:
        Lower and upper end; ``None`` without resamples, and for fewer than two patients.
    """
    return resampled_intervals(patients, resamples, seed, lambda times: statistic(times)[:, None])[0]


def resampled_intervals(
    patients: int, resamples: int, seed: int, statistics: Callable[[np.ndarray], np.ndarray], count: int = 1
) -> list[tuple[float, float] | None]:
    """`resampled_interval` of several statistics of the same resamples.

    Args:
        patients, resamples, seed: as for `resampled_interval`.
        statistics: (B, patients) to (B, ``count``).
        count: number of statistics.
    """
    if resamples < 1 or patients < 2:
        return [None] * count
    found = []
    for drawn in drawn_patients(patients, resamples, seed, _COUNTED_AT_ONCE):
        times = np.apply_along_axis(np.bincount, 1, drawn, minlength=patients).astype(float)
        found.append(statistics(times))
    return [percentile_interval(each) for each in np.concatenate(found).T]
