"""Metrics of a classifier: discrimination of the classes, and calibration of the probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CALIBRATION_BINS",
    "CLASS_METRICS",
    "PER_CLASS_METRICS",
    "calibration_bins",
    "class_metrics",
    "confusion_matrix",
    "per_class_metrics",
    "weighted_class_metrics",
]

CALIBRATION_BINS = 15
_EMPTY_CLASS = "a class has no samples"
CLASS_METRICS: dict[str, str | None] = {
    "accuracy": None,
    "balanced_accuracy": _EMPTY_CLASS,
    "macro_f1": _EMPTY_CLASS,
    "auc": _EMPTY_CLASS,
    "kappa": "all samples are of one class and predicted as it",
    "ece": None,
    "nll": "a true class has probability 0",
}
"""Name of each metric over all classes, in the order of tables, and the one reason for which it may be undefined."""
PER_CLASS_METRICS = ("recall", "precision", "f1", "auc")
"""Name of each metric of one class against the rest."""


def class_metrics(
    probabilities: ArrayLike, classes: ArrayLike, weights: ArrayLike | None = None
) -> dict[str, float | None]:
    r"""Metrics of a classifier over all classes.

    For sample i, :math:`p_{ic}` is the probability of class c, :math:`y_i` the true class, :math:`\hat y_i` the most
    probable class (the first one if several are equal), :math:`q_i` its probability and :math:`w_i` the weight.
    :math:`n_{ab}` is the total weight of the samples of class a predicted as b, and n the total weight of all samples.

    .. math::
        \mathrm{accuracy} = \sum_c \frac{n_{cc}}{n} \quad
        \mathrm{kappa} = \frac{\mathrm{accuracy} - e}{1 - e}, \; e = \sum_c \frac{n_{c·}\, n_{·c}}{n^2} \quad
        \mathrm{nll} = -\sum_i \frac{w_i}{n} \log p_{i y_i}

    .. math::
        \mathrm{ece} = \sum_{m=1}^{15} \Bigl| \sum_{i :\, q_i ∈ ((m-1)/15,\, m/15]}
        \frac{w_i}{n} \bigl([\hat y_i = y_i] - q_i\bigr) \Bigr|

    ``balanced_accuracy``, ``macro_f1`` and ``auc`` are unweighted means of recall, F1 and AUC of `per_class_metrics`
    over all classes. They are undefined if a class has no samples, since a mean over fewer classes is another metric.
    Cohen's kappa (1960) is unweighted; the expected calibration error uses the top probability, Guo et al. 2017,
    https://arxiv.org/abs/1706.04599.

    Args:
        probabilities: probability of each class; every row sums to 1.
        classes: true classes, from 0.
        weights: weight of each sample, 1 by default; a sample of weight 0 is ignored.

    Shape:
        - probabilities: (N, C), C ≥ 2
        - classes and weights: (N,)

    Returns:
        A value for each of `CLASS_METRICS`; ``None`` where it is undefined, for the reason in `CLASS_METRICS`.

    Raises:
        ValueError: shapes do not fit, a class is not one of 0 … C − 1, probabilities are not finite, negative or do
            not sum to 1, or weights are not finite, negative or all 0.

    Example:
        >>> metrics = class_metrics([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]], [0, 1, 1])
        >>> round(metrics["accuracy"], 3), metrics["balanced_accuracy"], metrics["auc"]
        (0.667, 0.75, 1.0)
        >>> class_metrics([[0.8, 0.2], [0.6, 0.4]], [0, 0])["auc"] is None
        True
    """
    overall, _ = weighted_class_metrics(probabilities, classes, _as_batch(weights, classes))
    return {name: _or_none(values[0]) for name, values in overall.items()}


def per_class_metrics(
    probabilities: ArrayLike, classes: ArrayLike, weights: ArrayLike | None = None
) -> list[dict[str, float | None]]:
    r"""Metrics of each class against the rest.

    With the symbols of `class_metrics`, samples i of class c, and samples j of other classes,

    .. math::
        \mathrm{recall}_c = \frac{n_{cc}}{n_{c·}} \quad
        \mathrm{precision}_c = \frac{n_{cc}}{n_{·c}} \quad
        \mathrm{f1}_c = \frac{2 n_{cc}}{n_{c·} + n_{·c}} \quad
        \mathrm{auc}_c = \frac{\sum_{ij} w_i w_j \bigl([p_{ic} > p_{jc}] + \tfrac12 [p_{ic} = p_{jc}]\bigr)}
        {\sum_{ij} w_i w_j}

    Recall, F1 and AUC are undefined for a class without samples, precision for a class that is never predicted, and the
    AUC also for a class that all samples belong to.

    Args:
        probabilities, classes, weights: as for `class_metrics`.

    Returns:
        For each class a value for each of `PER_CLASS_METRICS`; ``None`` where it is undefined.

    Raises:
        ValueError: as for `class_metrics`.

    Example:
        >>> per_class_metrics([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]], [0, 1, 1])[1]["recall"]
        0.5
    """
    _, each = weighted_class_metrics(probabilities, classes, _as_batch(weights, classes))
    return [{name: _or_none(values[0, c]) for name, values in each.items()} for c in range(each["recall"].shape[1])]


def weighted_class_metrics(
    probabilities: ArrayLike, classes: ArrayLike, weights: ArrayLike
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """`class_metrics` and `per_class_metrics` of the same samples for many sets of weights.

    Args:
        probabilities, classes: as for `class_metrics`.
        weights: one row of weights for each resample.

    Shape:
        - probabilities: (N, C); classes: (N,); weights: (B, N)

    Returns:
        Arrays (B,) of `CLASS_METRICS` and arrays (B, C) of `PER_CLASS_METRICS`, with NaN for undefined values.

    Raises:
        ValueError: as for `class_metrics`.
    """
    scores, truth, weight = _checked(probabilities, classes, weights)
    number = scores.shape[1]
    predicted, confidence = scores.argmax(axis=1), scores.max(axis=1)
    cells = np.eye(number * number)[truth * number + predicted]
    confusion = (weight @ cells).reshape(-1, number, number)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    of_class, found, total = confusion.sum(axis=2), confusion.sum(axis=1), confusion.sum(axis=(1, 2))
    auc = np.stack([_area(scores[:, c], truth == c, weight) for c in range(number)], axis=1)
    by_chance = (of_class * found).sum(axis=1)
    with np.errstate(invalid="ignore"):
        recall, precision = right / of_class, right / found
        f1 = np.where(of_class > 0, 2 * right / (of_class + found), np.nan)
        # Multiplied by n², so that a single nonzero cell gives exactly 0 / 0, for fractional weights too.
        kappa = (total * right.sum(axis=1) - by_chance) / (total * total - by_chance)
    gap = np.eye(CALIBRATION_BINS)[calibration_bins(confidence)] * ((predicted == truth) - confidence)[:, None]
    true_probability = scores[np.arange(len(truth)), truth]
    impossible = true_probability == 0
    loss = weight @ -np.log(np.where(impossible, 1, true_probability)) / total
    overall = {
        "accuracy": right.sum(axis=1) / total,
        "balanced_accuracy": recall.mean(axis=1),
        "macro_f1": f1.mean(axis=1),
        "auc": auc.mean(axis=1),
        "kappa": kappa,
        "ece": np.abs(weight @ gap).sum(axis=1) / total,
        "nll": np.where(weight @ impossible > 0, np.nan, loss),
    }
    return overall, {"recall": recall, "precision": precision, "f1": f1, "auc": auc}


def confusion_matrix(
    classes: ArrayLike, predicted: ArrayLike, number_of_classes: int, weights: ArrayLike | None = None
) -> NDArray:
    """Number of samples of each true class (row) that were predicted as each class (column).

    Args:
        classes: true classes, from 0.
        predicted: predicted classes, from 0.
        number_of_classes: C.
        weights: weight of each sample, 1 by default.

    Shape:
        - classes, predicted and weights: (N,)
        - output: (C, C), whole numbers without weights

    Raises:
        ValueError: shapes do not fit, a class is not one of 0 … C − 1, or weights are not finite or negative.

    Example:
        >>> confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1], 2).tolist()
        [[1, 1], [0, 2]]
    """
    truth = _class_numbers(classes, number_of_classes, "classes")
    found = _class_numbers(predicted, number_of_classes, "predicted")
    weight = None if weights is None else np.asarray(weights, dtype=np.float64)
    if truth.shape != found.shape or (weight is not None and weight.shape != truth.shape):
        raise ValueError(
            f"classes, predicted and weights must be (N,) of one length, got {truth.shape}, {found.shape} and "
            f"{None if weight is None else weight.shape}."
        )
    if weight is not None and not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("weights must be finite and not negative.")
    cells = np.bincount(truth * number_of_classes + found, weight, number_of_classes**2)
    return cells.reshape(number_of_classes, number_of_classes)


def calibration_bins(confidence: ArrayLike, bins: int = CALIBRATION_BINS) -> NDArray[np.intp]:
    """Index of the bin of each probability, for bins of equal width over (0, 1] that include their upper bound.

    Example:
        >>> calibration_bins([0.0, 0.1, 0.5, 0.51, 1.0], bins=2).tolist()
        [0, 0, 0, 1, 1]
    """
    inner = np.arange(1, bins) / bins
    return np.searchsorted(inner, np.asarray(confidence, dtype=np.float64), side="left")


def _area(scores: NDArray, positive: NDArray, weight: NDArray) -> NDArray:
    # By ranks: pairs with a lower score count 1, and pairs with the same score count one half.
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-1))
    positives, negatives = (
        np.add.reduceat((weight * chosen)[:, order], starts, axis=1) for chosen in (positive, ~positive)
    )
    below = np.cumsum(negatives, axis=1) - negatives
    with np.errstate(invalid="ignore"):
        return (positives * (below + negatives / 2)).sum(axis=1) / (positives.sum(axis=1) * negatives.sum(axis=1))


def _class_numbers(classes: ArrayLike, number: int, name: str) -> NDArray:
    found = np.asarray(classes)
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"{name} must be whole numbers, got {found.dtype}.")
    found = found.astype(np.intp)
    if found.ndim != 1:
        raise ValueError(f"{name} must be (N,), got {found.shape}.")
    if found.size and not (found.min() >= 0 and found.max() < number):
        raise ValueError(f"{name} must lie in 0 … {number - 1}, got {found.min()} … {found.max()}.")
    return found


def _checked(
    probabilities: ArrayLike, classes: ArrayLike, weights: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] < 1 or scores.shape[1] < 2:
        raise ValueError(f"probabilities must be (N, C) with N ≥ 1 and C ≥ 2, got {scores.shape}.")
    truth = _class_numbers(classes, scores.shape[1], "classes")
    weight = np.asarray(weights, dtype=np.float64)
    if truth.shape != scores.shape[:1] or weight.ndim != 2 or weight.shape[1:] != truth.shape:
        raise ValueError(
            f"each sample needs one class and one weight: got probabilities {scores.shape}, classes {truth.shape} and "
            f"weights {weight.shape[1:]}."
        )
    if not np.isfinite(scores).all():
        raise ValueError("probabilities are not finite.")
    if (scores < 0).any() or np.abs(scores.sum(axis=1) - 1).max() > 1e-4:
        raise ValueError("probabilities must not be negative and must sum to 1; take the softmax of logits first.")
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any(axis=1).all()):
        raise ValueError("weights must be finite, not negative and not all 0.")
    return scores, truth, weight


def _as_batch(weights: ArrayLike | None, classes: ArrayLike) -> NDArray[np.float64]:
    return (np.ones(np.shape(classes)) if weights is None else np.asarray(weights, dtype=np.float64))[None]


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
