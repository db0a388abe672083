"""How large one image may be: the same limit for every format and every way in."""

from __future__ import annotations

__all__ = ["MAX_PIXELS", "TooLarge", "check_pixels"]

# 512 slices of 512 × 512, the largest volumes that scanners commonly write; 512 MiB as float32.
MAX_PIXELS = 2**27


class TooLarge(ValueError):
    """An image with more pixels than allowed, refused before its pixels are read; the message is the reason."""

    def __init__(self, pixels: int, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__(
            f"the image has {pixels / 1e6:.0f} million pixels, more than the {max_pixels / 1e6:.0f} million that are "
            "read; if it really is so large, raise max_pixels"
        )


def check_pixels(pixels: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse an image by the size that its header announces.

    Args:
        pixels: number of pixels or voxels.
        max_pixels: the limit.

    Raises:
        TooLarge: there are more.

    Example:
        >>> check_pixels(512 * 512 * 25)
        >>> check_pixels(10**9)
        Traceback (most recent call last):
        data_prep.limits.TooLarge: the image has 1000 million pixels, more than the 134 million that are read; if it \
really is so large, raise max_pixels
    """
    if pixels > max_pixels:
        raise TooLarge(pixels, max_pixels)
