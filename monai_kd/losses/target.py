"""The label as one mask for each channel of the logits."""

from __future__ import annotations

import torch
from monai.networks import one_hot

from .probability import full_precision

__all__ = ["target_masks"]


def target_masks(label: torch.Tensor, logits: torch.Tensor, activation: str) -> torch.Tensor:
    """One mask for each channel of the logits.

    Args:
        label: of the logits' shape, 0 or 1; for a softmax also (B, 1, …), the class of each position.
        logits: (B, C, …).
        activation: "sigmoid" or "softmax".

    Returns:
        the logits' shape and, but for half precision, their type.

    Raises:
        ValueError: the shapes don't fit, or, on a CPU, a class is not one of 0 … C − 1. Elsewhere its position is NaN.

    Example:
        >>> target_masks(torch.tensor([[[2, 0]]]), torch.zeros(1, 3, 2), "softmax")
        tensor([[[0., 1.],
                 [0., 0.],
                 [1., 0.]]])
    """
    dtype = full_precision(logits).dtype
    if label.shape == logits.shape:
        return label.to(dtype)
    classes = logits.shape[1]
    if activation == "softmax" and label.shape == (logits.shape[0], 1, *logits.shape[2:]):
        if label.device.type != "cpu":
            return _compared(label, classes, dtype)
        if not ((label >= 0) & (label < classes) & (label == label.long())).all():
            raise ValueError(
                f"label holds classes from {label.min().item():g} to {label.max().item():g}; with {classes} channels "
                f"they must be whole numbers from 0 to {classes - 1}."
            )
        return one_hot(label, classes, dtype=dtype)
    also = ", nor is the label one channel of class numbers" if activation == "softmax" else ""
    raise ValueError(f"student logits {tuple(logits.shape)} and label {tuple(label.shape)} differ{also}.")


def _compared(label: torch.Tensor, classes: int, dtype: torch.dtype) -> torch.Tensor:
    """One-hot masks without a question to the device: a value that is no class is NaN in all of them.

    As an index, it would end the process on a GPU without a useful message; NaN makes the loss NaN, which is an error
    at the end of the epoch.
    """
    numbers = torch.arange(classes, device=label.device).reshape(-1, *[1] * (label.ndim - 2))
    masks = (label == numbers).to(dtype)
    return masks / masks.sum(dim=1, keepdim=True)
