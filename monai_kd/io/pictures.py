"""Read PNG and JPEG files."""

from __future__ import annotations

import functools
import logging
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

# Pillow detects many other formats, whatever the suffix is, and passes some of them to external programs.
FORMATS = ("PNG", "JPEG")
GREY_MODES = {"L", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_WITH_COLOURS = (2, 4, 6)  # RGB, grey with alpha, RGB with alpha
_lock = threading.Lock()
logger = logging.getLogger(__name__)


def read_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The grey values of a picture, (X, Y), X = column, Y = row, rotated by its EXIF orientation.

    Grey values are kept as they are; colours become their luminance (ITU-R 601), and transparency is ignored.

    Raises:
        UnreadableImage: the file is damaged, or holds 16-bit colours or transparency, which Pillow reads as 8 bits.
        TooLarge: it has more pixels than `max_pixels`.
    """
    path = Path(path)
    with _opened(path, max_pixels) as file:
        check_pixels(file.width * file.height, max_pixels)
        # Viewers apply the EXIF orientation, so the network and the mask must see the same image.
        picture = ImageOps.exif_transpose(file)
        if picture.mode not in GREY_MODES:
            coloured = picture.convert("RGB")
            picture = coloured.convert("L")
            if not (np.asarray(coloured) == np.asarray(picture)[..., None]).all():
                _say_that_colours_are_lost()
        return np.asarray(picture).T


def picture_size(path: str | Path) -> tuple[int, int]:
    """Columns and rows of a picture, by its header.

    Raises:
        UnreadableImage: the header can't be read.
    """
    with _opened(Path(path), MAX_PIXELS) as file:
        return file.size


@functools.cache
def _say_that_colours_are_lost() -> None:
    """Once in a process; the name of the file may be that of a patient."""
    logger.warning("there are pictures in COLOUR, of which only the brightness is used: networks here see grey values.")


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
    except Exception as error:  # damaged pixels, headers and EXIF make Pillow raise many different types
        text = "cannot identify" if "cannot identify" in str(error) else first_line(error, path)
        raise UnreadableImage(f"it can't be read as a picture, truncated or damaged? ({text})") from None


@contextmanager
def _without_pillows_limit() -> Iterator[None]:
    """Suspend Pillow's own limit, which warns at 90 million pixels and raises at 180 million: the caller checks."""
    with _lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit
