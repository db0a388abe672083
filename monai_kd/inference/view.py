"""The pixels and masks of an image for a viewer that changes window, level and slice."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..io.source import SourceImage
from ..transforms import upright_array, upright_aspect
from .overlay import grey_window, marks_of, outline_colours

__all__ = ["image_view"]

MOST_COUNTED = 2**20  # pixels, for black and white
WIDEST = 2**16 - 1  # whole grey values are kept exactly up to this range
LEVELS = 2**12 - 1  # of all others: more than any screen shows


def image_view(
    source: SourceImage, masks: np.ndarray, mask_names: Sequence[str] = ("tumour",), first: int = 0
) -> dict[str, Any]:
    """An image and its masks, upright, as JSON values.

    Args:
        source: the image.
        masks: of its shape, 0 or 1; of several classes (C, X, Y) or (C, X, Y, slices).
        mask_names: of the classes.
        first: the slice to begin with, from 0.

    Returns:
        ``columns``, ``rows``, ``slices``; ``first``; ``aspect``, height of a pixel by its width, or 1 if not known;
        ``marks``, see `edge_marks`, or ``None``; ``pixels``, 16-bit numbers, slice by slice and row by row, whose grey
        values are ``low + step * number``, all of their low bytes before all of their high bytes, which packs better;
        ``window``, the grey values to show as black and as white; and ``masks``, for each class its ``name``,
        ``colour`` and ``pixels``, bytes 0 or 1. All ``pixels`` are compressed by zlib and in base64.
    """
    image = upright_array(source.first_channel, source.affine)
    numbers, low, step = _numbers(image)
    several = len(mask_names) > 1
    colours = outline_colours(len(mask_names))
    black, white = grey_window(image, MOST_COUNTED)
    columns, rows, slices = image.shape
    return {
        **{"columns": columns, "rows": rows, "slices": slices, "first": first},
        "aspect": upright_aspect(source.affine, source.spacing),
        "marks": marks_of(source),
        "pixels": _packed(numbers.view(np.uint8).reshape(*numbers.shape, 2).transpose(3, 0, 1, 2)),
        **{"low": low, "step": step, "window": [black, max(white, black + step)]},
        "masks": [
            {"name": name, "colour": colour, "pixels": _packed(upright_array(mask, source.affine).astype(np.uint8).T)}
            for name, colour, mask in zip(mask_names, colours, masks if several else masks[None], strict=True)
        ],
    }


def _numbers(image: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(slices, rows, columns), with low and step; slice by slice, because a volume may fill much of the memory."""
    low, high = float(image.min()), float(image.max())
    slices = np.moveaxis(image, 2, 0)
    whole = image.dtype.kind in "bui" or all(bool((each == np.rint(each)).all()) for each in slices)
    step = 1.0 if whole and high - low <= WIDEST else max((high - low) / LEVELS, float(np.finfo(np.float32).tiny))
    numbers = np.empty(image.shape[::-1], "<u2")
    for number, each in enumerate(slices):
        numbers[number] = np.rint((each.T.astype(np.float64) - low) / step)
    return numbers, low, step


def _packed(array: np.ndarray) -> str:
    """(slices, rows, columns), or (2, slices, rows, columns) of the bytes of numbers, compressed."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).data, level=1)).decode("ascii")
