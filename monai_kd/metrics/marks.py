"""The marks on a slice: the connected areas of its predicted mask, right and false ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

__all__ = ["SliceMarks", "slice_marks"]

_WITH_CORNERS = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class SliceMarks:
    """What a predicted mask marks on one slice.

    Args:
        lesions: for each connected area of the true mask, the score of the best mark that touches it; 0 if none does.
        false: the score of each mark that touches no true area.
        false_pixels: number of pixels of the false marks.
    """

    lesions: tuple[float, ...]
    false: tuple[float, ...]
    false_pixels: int


def slice_marks(probability: torch.Tensor, prediction: torch.Tensor, truth: torch.Tensor) -> SliceMarks:
    """Compare the connected areas of a predicted and of a true mask; pixels that touch by a corner are connected.

    A mark is a connected area of the prediction. Its score is its highest probability. Of several classes, all are one
    mask, and the highest probability counts.

    Args:
        probability: of tumour, without the background.
        prediction, truth: masks, foreground where not 0.

    Shape:
        - all: (C, H, W)

    Example:
        >>> truth, prediction = torch.zeros(1, 6, 6), torch.zeros(1, 6, 6)
        >>> truth[0, 0, 0] = truth[0, 5, 5] = 1
        >>> prediction[0, 0, :2] = prediction[0, 3, 3] = 1
        >>> slice_marks(0.75 * prediction, prediction, truth)
        SliceMarks(lesions=(0.75, 0.0), false=(0.75,), false_pixels=1)
    """
    scores = np.asarray(probability.amax(0), dtype=np.float64)
    marks, count = ndimage.label(np.asarray((prediction != 0).any(0)), _WITH_CORNERS)
    lesions, lesion_count = ndimage.label(np.asarray((truth != 0).any(0)), _WITH_CORNERS)
    highest = np.concatenate([[0.0], ndimage.maximum(scores, marks, range(1, count + 1))]) if count else np.zeros(1)
    right = np.unique(marks[lesions > 0])
    false = np.setdiff1d(np.arange(1, count + 1), right)
    found = (highest[np.unique(marks[lesions == number])].max() for number in range(1, lesion_count + 1))
    return SliceMarks(
        tuple(float(score) for score in found),
        tuple(float(highest[number]) for number in false),
        int(np.isin(marks, false).sum()) if len(false) else 0,
    )
