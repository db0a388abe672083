"""Uncertainty of a segmentation network on a slice, and disagreement of two networks."""

from __future__ import annotations

import numpy as np

__all__ = ["slice_disagreement", "slice_entropy"]


def slice_entropy(probability: np.ndarray) -> float:
    """Mean binary entropy of the pixels of a slice, in nats; for a volume, the largest mean of a slice.

    H(p) = -p ln p - (1 - p) ln(1 - p), Shannon 1948. Since the network is certain of the background, the mean increases
    with the uncertain area.

    Args:
        probability: (X, Y) or (X, Y, slices), 0 … 1.

    Example:
        >>> round(slice_entropy(np.full((2, 2), 0.5)), 4)  # ln 2
        0.6931
    """
    return _of_worst_slice(_entropy(np.asarray(probability, dtype=float)))


def slice_disagreement(one: np.ndarray, other: np.ndarray) -> float:
    """Mean Jensen-Shannon divergence of two predictions over a slice, in nats; for a volume, the largest of a slice.

    JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2, Lin 1991, with H as in `slice_entropy`: 0 where the probabilities are
    equal, ln 2 where one is 0 and the other 1.

    Args:
        one, other: (X, Y) or (X, Y, slices), 0 … 1.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> round(slice_disagreement(np.zeros((2, 2)), np.ones((2, 2))), 4)
        0.6931
    """
    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    if one.shape != other.shape:
        raise ValueError(f"the probabilities must have the same shape, got {one.shape} and {other.shape}.")
    return _of_worst_slice(_entropy((one + other) / 2) - (_entropy(one) + _entropy(other)) / 2)


def _entropy(probability: np.ndarray) -> np.ndarray:
    # 0 ln 0 is 0.
    inside = np.clip(probability, np.finfo(float).tiny, 1)
    outside = np.clip(1 - probability, np.finfo(float).tiny, 1)
    return -probability * np.log(inside) - (1 - probability) * np.log(outside)


def _of_worst_slice(values: np.ndarray) -> float:
    return float(values.reshape(*values.shape[:2], -1).mean(axis=(0, 1)).max())
