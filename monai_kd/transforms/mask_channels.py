"""Conversion between masks, class indices and one-hot channels."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

__all__ = ["foreground_probabilities", "index_map", "separate_masks"]

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def separate_masks(masks: Array, classes: int) -> Array:
    """One binary mask for each class, without the background.

    Args:
        masks: (1, …): one mask, foreground where not 0, or with several classes their indices from 1; (C, …): a mask
            for each class, which may overlap; (1 + C, …): one-hot, with the background first.
        classes: C.

    Returns:
        (C, …), bool.

    Raises:
        ValueError: the number of channels is none of these, or an index is not one of 0 … C.

    Example:
        >>> separate_masks(np.array([[0, 1, 2, 2]]), 2).astype(int)
        array([[0, 1, 0, 0],
               [0, 0, 1, 1]])
    """
    channels = len(masks)
    if channels == classes:
        return masks != 0
    if channels == classes + 1:
        return masks[1:] != 0
    if channels != 1:
        raise ValueError(
            f"masks of {classes} classes have 1 channel (indices), {classes} (one for each class) or {classes + 1} "
            f"(with the background), got {tuple(masks.shape)}."
        )
    if masks.max() > classes or masks.min() < 0:
        raise ValueError(f"a mask of {classes} classes holds indices from 0 to {classes}, got {masks.max()}.")
    each = [masks[0] == number for number in range(1, classes + 1)]
    return torch.stack(each) if isinstance(masks, torch.Tensor) else np.stack(each)


def foreground_probabilities(probabilities: Array, classes: int) -> Array:
    """The probabilities of the classes, without that of the background.

    Args:
        probabilities: (C, …), of a sigmoid, or (1 + C, …), of a softmax with the background first.
        classes: C.

    Returns:
        (C, …).

    Raises:
        ValueError: the number of channels is neither.
    """
    if len(probabilities) not in (classes, classes + 1):
        raise ValueError(
            f"probabilities of {classes} classes have {classes} channels, or {classes + 1} with the background, got "
            f"{tuple(probabilities.shape)}."
        )
    return probabilities[-classes:]


def index_map(masks: np.ndarray) -> np.ndarray:
    """The class index of each pixel; where masks overlap, the index of the last one.

    So nested regions, such as whole tumour, tumour core and enhancing tumour, all stay visible in this order.

    Args:
        masks: (C, …), of `separate_masks`.

    Returns:
        (…), uint8, 0 … C.

    Example:
        >>> index_map(np.array([[1, 1, 0], [0, 1, 0]]))
        array([1, 2, 0], dtype=uint8)
    """
    indices = np.zeros(masks.shape[1:], dtype=np.uint8)
    for number, mask in enumerate(masks, 1):
        indices[mask != 0] = number
    return indices
