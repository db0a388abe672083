"""How large an image is, by its header, before its pixels are read."""

from __future__ import annotations

from pathlib import Path

from data_prep.limits import MAX_PIXELS, TooLarge

from .dicom_pixels import pixels_in_header
from .kinds import kind_of
from .nifti import nifti_header, slice_axis
from .pictures import picture_size
from .unreadable import UnreadableImage

__all__ = ["size_in_header"]


def size_in_header(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Pixels of a slice, and number of slices, that the header announces; (0, 0) if the reader will say why it can't.

    Args:
        path: NIfTI, PNG, JPEG or DICOM, see `kind_of`.
        max_pixels: for what is packed as a whole, header and all.

    Raises:
        TooLarge: it unpacks to more than so many pixels may take.
        UnreadableImage: it is packed in a way whose size can't be known without unpacking.
    """
    kind = kind_of(path)
    try:
        if kind == "nifti":
            shape = [abs(int(length)) for length in nifti_header(path).get_data_shape()]
            slices = shape.pop(slice_axis(shape)) if len(shape) > 2 else 1
            pixels = 1
            for length in shape:
                pixels *= length
            return pixels, slices
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
    except Exception:  # the readers know the dozen types that damaged headers raise, and name them
        return 0, 0
