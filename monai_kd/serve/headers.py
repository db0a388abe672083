"""What an upload will take in memory, by the headers of its files, before their pixels are read."""

from __future__ import annotations

from pathlib import Path

from data_prep.limits import TooLarge

from ..io.size import size_in_header

__all__ = ["MOST_PIXELS", "TooManyPixels", "pixels_told"]

MOST_PIXELS = 2**25  # 128 slices of 512 × 512
# The network sees a slice of a volume at its own size, however small it is in the file.
LEAST_OF_A_SLICE = 2**16


class TooManyPixels(ValueError):
    """An upload that is small when packed, and would fill the memory."""

    def __init__(self) -> None:
        super().__init__(f"it has more than the {MOST_PIXELS / 1e6:.0f} million pixels that this page takes at once")


def pixels_told(path: Path) -> int:
    """Number of pixels that the header promises; 0 when it can't be read, which the reader then explains.

    Args:
        path: NIfTI, PNG, JPEG or DICOM, see `kind_of`.

    Raises:
        TooManyPixels: it unpacks to more than `MOST_PIXELS` can take.
        UnreadableImage: it is packed in a way whose size can't be told without unpacking.
    """
    try:
        pixels, slices = size_in_header(path, MOST_PIXELS)
    except TooLarge:
        raise TooManyPixels from None
    return max(pixels, LEAST_OF_A_SLICE if slices > 1 else 0) * slices
