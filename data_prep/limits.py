"""The size limit of images, which is the same for every format and every entry point."""

from __future__ import annotations

from typing import Protocol

__all__ = ["HEADER_BYTES", "MAX_PIXELS", "TooLarge", "check_bytes", "check_pixels", "most_bytes", "read_at_most"]

# 512 slices of 512 × 512, the largest volumes that scanners commonly write; 512 MiB as float32.
MAX_PIXELS = 2**27
# Bytes allowed beside the pixels: headers and their extensions, a mask, an outline.
HEADER_BYTES = 2**24
PIXEL_BYTES = 8  # of the widest number type of images
CHUNK = 2**20


class Readable(Protocol):
    """A binary stream."""

    def read(self, size: int, /) -> bytes: ...


class TooLarge(ValueError):
    """An image is larger than allowed; raised before its pixels are read. The message is the reason."""


def check_pixels(pixels: int, max_pixels: int = MAX_PIXELS) -> None:
    """Check the size that the header of an image announces.

    Args:
        pixels: number of pixels or voxels.
        max_pixels: the limit.

    Raises:
        TooLarge: there are more than `max_pixels`.

    Example:
        >>> check_pixels(512 * 512 * 25)
        >>> check_pixels(10**9)
        Traceback (most recent call last):
        data_prep.limits.TooLarge: the image has 1,000,000,000 pixels, more than the 134,217,728 that are read; if it \
really is so large, raise max_pixels
    """
    if pixels > max_pixels:
        raise TooLarge(
            f"the image has {pixels:,} pixels, more than the {max_pixels:,} that are read; if it really is so large, "
            "raise max_pixels"
        )


def most_bytes(max_pixels: int = MAX_PIXELS) -> int:
    """Largest size in bytes of a file with an image of ``max_pixels``, after decompression.

    Example:
        >>> most_bytes(0) == HEADER_BYTES
        True
    """
    return PIXEL_BYTES * max_pixels + HEADER_BYTES


def check_bytes(count: int, max_pixels: int = MAX_PIXELS) -> None:
    """Check the size of a file in bytes, after decompression.

    Raises:
        TooLarge: it is larger than `most_bytes`.
    """
    if count > most_bytes(max_pixels):
        raise TooLarge(
            f"it takes more than {most_bytes(max_pixels):,} bytes, which an image of {max_pixels:,} pixels may; if it "
            "really is so large, raise max_pixels"
        )


def read_at_most(stream: Readable, max_pixels: int = MAX_PIXELS) -> bytes:
    """Read the rest of a stream and count its bytes during decompression: the size in its header may be wrong.

    Raises:
        TooLarge: there are more than `most_bytes`.
    """
    content = bytearray()
    while chunk := stream.read(CHUNK):
        content += chunk
        check_bytes(len(content), max_pixels)
    return bytes(content)
