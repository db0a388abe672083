"""p-values of paired differences, with patients as the units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["sign_flip_p_value"]

_DRAWN_AT_ONCE = 2_000_000


def sign_flip_p_value(totals: Sequence[float], resamples: int, seed: int) -> float | None:
    r"""Two-sided p-value of a paired difference by random changes of sign (permutation test).

    If the two networks were equally good, the difference of each patient could as well have the other sign. With
    :math:`s_i` the sum of the differences over the slices of patient i, and random signs :math:`ε_{bi} = ±1`,

    .. math:: p = \frac{1 + \#\{b : |\sum_i ε_{bi} s_i| ≥ |\sum_i s_i|\}}{1 + B}

    Args:
        totals: :math:`s_i`, one number for each patient.
        resamples: B; 0 for no p-value.
        seed: equal seeds give equal p-values.

    Returns:
        The p-value, at least 1 / (1 + B); ``None`` without resamples, and for fewer than two patients.

    Example:
        >>> sign_flip_p_value([0.1] * 20, resamples=999, seed=0), sign_flip_p_value([0.1, -0.1], 99, 0)
        (0.001, 1.0)
    """
    values = np.asarray(totals, dtype=np.float64)
    if resamples < 1 or len(values) < 2:
        return None
    generator = np.random.default_rng(seed)
    # Sums of the same numbers in another order differ in their last digits.
    least = abs(values.sum()) * (1 - 1e-9)
    extreme, at_once = 0, max(1, _DRAWN_AT_ONCE // len(values))
    for first in range(0, resamples, at_once):
        signs = generator.integers(0, 2, size=(min(at_once, resamples - first), len(values))) * 2 - 1
        extreme += int((np.abs(signs @ values) >= least).sum())
    return (1 + extreme) / (1 + resamples)
