"""PNG and JPEG."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data_prep.limits import MAX_PIXELS, TooLarge, check_bytes, check_pixels
from data_prep.regular import check_regular

from .unreadable import UnreadableImage, first_line

__all__ = ["picture_size", "read_picture"]

# Pillow reads much else under a picture's name, and hands some of it to other programs.
FORMATS = ("PNG", "JPEG")
GREY_MODES = {"L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_WITH_COLOURS = (2, 4, 6)  # RGB, grey with alpha, RGB with alpha
_lock = threading.Lock()


def read_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The grey values of a picture, (X, Y), X = column, Y = row, turned as viewers turn it.

    Grey values are kept as they are; colours become their luminance (ITU-R 601), and transparency is left out.

    Raises:
        UnreadableImage: the file is damaged, or holds 16-bit colours or transparency, which Pillow reads as 8 bits.
        TooLarge: it has more pixels.
    """
    path = Path(path)
    with _opened(path, max_pixels) as file:
        check_pixels(file.width * file.height, max_pixels)
        # Viewers turn pictures as the camera says, so the network and the mask get them turned too.
        picture = ImageOps.exif_transpose(file)
        if picture.mode not in GREY_MODES:
            picture = picture.convert("RGB").convert("L")
        return np.asarray(picture).T


def picture_size(path: str | Path) -> tuple[int, int]:
    """Columns and rows of a picture, by its header.

    Raises:
        UnreadableImage: the header can't be read.
    """
    with _opened(Path(path), MAX_PIXELS) as file:
        return file.size


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    try:
        check_bytes(check_regular(path), max_pixels)
        with open(path, "rb") as stream:
            begin = stream.read(26)
            if begin.startswith(PNG_SIGNATURE) and begin[24:25] == b"\x10" and begin[25] in PNG_WITH_COLOURS:
                raise UnreadableImage("it is a PNG of 16-bit colours or transparency: save it as 16-bit grey")
            stream.seek(0)
            with _without_pillows_limit():
                file = Image.open(stream, formats=FORMATS)
            yield file
    except (UnreadableImage, TooLarge, MemoryError):
        raise
    except Exception as error:  # damaged pixels, headers and EXIF make PIL raise half a dozen different types
        text = "cannot identify" if "cannot identify" in str(error) else first_line(error, path)
        raise UnreadableImage(f"it can't be read as a picture, truncated or damaged? ({text})") from None


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Pillow warns of 90 million pixels and refuses 180 million: here the limit is the caller's."""
    with _lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
