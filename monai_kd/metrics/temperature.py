"""One number by which the probabilities of a trained classifier become believable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import softmax

__all__ = ["cross_fitted_temperatures", "fit_temperature"]

# Far beyond what networks need (1 to 5): a temperature outside is a sign of data that determine none.
_LOWEST, _HIGHEST = 0.01, 100.0


def fit_temperature(logits: ArrayLike, classes: ArrayLike) -> float:
    r"""Temperature scaling, Guo et al. 2017, https://arxiv.org/abs/1706.04599.

    .. math:: T = \arg\min_{0.01 ≤ T ≤ 100} \; -\frac1N \sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    The most probable class of ``softmax(logits / T)`` is the same for every T. In 1/T the mean is convex, so that the
    minimum is the one point where its slope is 0:

    .. math:: \frac{1}{N} \sum_i \Bigl( \sum_c \mathrm{softmax}(z_i / T)_c \, z_{ic} - z_{i y_i} \Bigr) = 0

    Fit it on slices that neither trained the network nor are used to report its calibration.

    Args:
        logits: of each class.
        classes: true classes, from 0.

    Shape:
        - logits: (N, C); classes: (N,)

    Returns:
        T; above 1 when the network is surer of itself than it should be.

    Raises:
        ValueError: shapes do not fit, logits are not finite, a class is not one of 0 … C − 1, there are fewer than two
            true classes, or no T within the range is best: when every slice is right the loss falls down to T = 0, and
            when the logits are no better than chance up to T = ∞.

    Example:
        >>> # right three times of four, but sure at odds of 9 : 1, where 3 : 1 = 9^(1/2) : 1 would be due
        >>> round(fit_temperature([[np.log(9), 0.0]] * 4, [0, 0, 0, 1]), 6)
        2.0
    """
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(classes)
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        raise ValueError(f"logits must be (N, C) and classes (N,), got {scores.shape} and {truth.shape}.")
    if not np.isfinite(scores).all():
        raise ValueError("logits are not finite.")
    present = np.unique(truth)
    if len(present) < 2:
        raise ValueError(f"a temperature needs slices of two classes at least, got classes {present.tolist()}.")
    if not np.issubdtype(truth.dtype, np.integer) or present[0] < 0 or present[-1] >= scores.shape[1]:
        raise ValueError(f"classes must be whole numbers in 0 … {scores.shape[1] - 1}, got {present.tolist()}.")
    # Differences from the true class: exact where they cancel, whatever the size of the logits.
    gaps = scores - np.take_along_axis(scores, truth[:, None], axis=1)

    def slope(log_temperature: float) -> float:
        return float((softmax(gaps / np.exp(log_temperature), axis=1) * gaps).sum(axis=1).mean())

    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    if slope(high) >= 0:
        raise ValueError(f"no temperature below {_HIGHEST} is best: the logits are no better than chance.")
    if slope(low) <= 0:
        raise ValueError(f"no temperature above {_LOWEST} is best: (almost) every slice is classified correctly.")
    return float(np.exp(brentq(slope, low, high)))


def cross_fitted_temperatures(
    logits: ArrayLike, classes: ArrayLike, groups: Sequence[str], seed: int, parts: int = 5
) -> NDArray[np.float64]:
    """For every slice a temperature that was fitted without its patient, so that calibration can be told honestly.

    The groups are dealt out at random to ``parts``; each part gets the temperature that fits all the others.

    Args:
        logits, classes: as for `fit_temperature`.
        groups: the patient of each slice.
        seed: of the dealing.
        parts: at most as many as there are groups.

    Returns:
        (N,)

    Raises:
        ValueError: there are fewer than two groups, or as `fit_temperature` for some part.

    Example:
        >>> z = [[np.log(9), 0.0]] * 8
        >>> cross_fitted_temperatures(z, [0, 0, 0, 1] * 2, list("aaaabbbb"), seed=0).round(6).tolist()
        [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    """
    scores, truth = np.asarray(logits, dtype=np.float64), np.asarray(classes)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError("a temperature can't be fitted to other patients: there is only one.")
    parts = min(parts, len(names))
    part = np.random.default_rng(seed).permutation(np.arange(len(names)) % parts)[member]
    temperatures = np.empty(len(scores))
    for number in range(parts):
        temperatures[part == number] = fit_temperature(scores[part != number], truth[part != number])
    return temperatures
