"""The size of an image by its header, before its pixels are read."""

from __future__ import annotations

import math
from pathlib import Path

from data_prep.limits import MAX_PIXELS, TooLarge

from .dicom_pixels import pixels_in_header
from .kinds import kind_of
from .nifti import nifti_header, slice_axis
from .pictures import picture_size
from .unreadable import UnreadableImage

__all__ = ["size_in_header"]


def size_in_header(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Pixels per slice and number of slices that the header announces; (0, 0) for a damaged header.

    The reader then raises the error with its reason.

    Args:
        path: NIfTI, PNG, JPEG or DICOM, see `kind_of`.
        max_pixels: limit for DICOM files that are deflated as a whole, with their header.

    Raises:
        TooLarge: the file is deflated, and larger than the limit after decompression.
        UnreadableImage: the size of a DICOM file can't be known without decompressing its pixels.
    """
    kind = kind_of(path)
    try:
        if kind == "nifti":
            shape = [abs(int(length)) for length in nifti_header(path).get_data_shape()]
            slices = shape.pop(slice_axis(shape)) if len(shape) > 2 else 1
            return math.prod(shape), slices
        if kind == "picture":
            columns, rows = picture_size(path)
            return columns * rows, 1
        return pixels_in_header(path, max_pixels), 1
    except TooLarge:
        raise
    except UnreadableImage:
        if kind == "dicom":
            raise
        return 0, 0
    except Exception:  # damaged headers raise many types, which the readers report
        return 0, 0
