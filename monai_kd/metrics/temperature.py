"""Temperature scaling of the probabilities of a trained classifier."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import softmax

__all__ = ["cross_fitted_temperatures", "fit_temperature"]

# Far wider than the temperatures of networks (1 to 5): a minimum outside means that the data determine no temperature.
_LOWEST, _HIGHEST = 0.01, 100.0


def fit_temperature(logits: ArrayLike, classes: ArrayLike) -> float:
    r"""Temperature scaling, Guo et al. 2017, https://arxiv.org/abs/1706.04599.

    .. math:: T = \arg\min_{0.01 ≤ T ≤ 100} \; -\frac1N \sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    The most probable class of ``softmax(logits / T)`` is the same for every T. The mean is convex in 1/T, so that its
    minimum is the only point of slope 0:

    .. math:: \frac{1}{N} \sum_i \Bigl( \sum_c \mathrm{softmax}(z_i / T)_c \, z_{ic} - z_{i y_i} \Bigr) = 0

    Fit it on slices that neither trained the network nor are used to report its calibration.

    Args:
        logits: logits of each class.
        classes: true classes, from 0.

    Shape:
        - logits: (N, C); classes: (N,)

    Returns:
        T; above 1 for an overconfident network.

    Raises:
        ValueError: shapes do not fit, logits are not finite, a class is not one of 0 … C − 1, there are fewer than two
            true classes, or there is no minimum within the range: the loss decreases towards T = 0 if every slice is
            classified correctly, and towards T = ∞ if the logits are no better than chance.

    Example:
        >>> # right three times out of four, with odds of 9 : 1 instead of 3 : 1 = 9^(1/2) : 1
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
        raise ValueError(f"a temperature needs slices of at least two classes, got classes {present.tolist()}.")
    if not np.issubdtype(truth.dtype, np.integer) or present[0] < 0 or present[-1] >= scores.shape[1]:
        raise ValueError(f"classes must be whole numbers in 0 … {scores.shape[1] - 1}, got {present.tolist()}.")
    # Differences to the logit of the true class, which are exact where they cancel, also for large logits.
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
    """For every slice a temperature that was fitted without its patient, for an unbiased estimate of calibration.

    The groups are assigned at random to ``parts``; each part gets the temperature fitted to all other parts.

    Args:
        logits, classes: as for `fit_temperature`.
        groups: the patient of each slice.
        seed: seed of the assignment.
        parts: number of parts, reduced to the number of groups if there are fewer.

    Returns:
        Temperatures, (N,).

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
        raise ValueError("a temperature can't be fitted to other patients: there is only one patient.")
    parts = min(parts, len(names))
    part = np.random.default_rng(seed).permutation(np.arange(len(names)) % parts)[member]
    temperatures = np.empty(len(scores))
    for number in range(parts):
        temperatures[part == number] = fit_temperature(scores[part != number], truth[part != number])
    return temperatures
