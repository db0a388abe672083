"""The number of pixels of an upload, by the headers of its files, before their pixels are read."""

from __future__ import annotations

from pathlib import Path

from data_prep.limits import TooLarge

from ..io.size import size_in_header

__all__ = ["MOST_PIXELS", "TooManyPixels", "announced_pixels"]

MOST_PIXELS = 2**25  # 128 slices of 512 × 512
# A slice of a volume counts as at least so many pixels, because it is resized to the input of the network.
LEAST_OF_A_SLICE = 2**16


class TooManyPixels(ValueError):
    """An upload that may be small when compressed, but would fill the memory."""

    def __init__(self) -> None:
        super().__init__(f"it has more than the {MOST_PIXELS / 1e6:.0f} million pixels that this page accepts at once")


def announced_pixels(path: Path) -> int:
    """Number of pixels that the header announces; 0 when it can't be read, as the reader then reports.

    Args:
        path: NIfTI, PNG, JPEG or DICOM, see `kind_of`.

    Raises:
        TooManyPixels: the decompressed file is larger than `MOST_PIXELS` may be.
        UnreadableImage: its size can't be known without decompressing its pixels.
    """
    try:
        pixels, slices = size_in_header(path, MOST_PIXELS)
    except TooLarge:
        raise TooManyPixels from None
    return max(pixels, LEAST_OF_A_SLICE if slices > 1 else 0) * slices
