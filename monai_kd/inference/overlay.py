"""An image with the outline of what was found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ..io.atomic import atomic_write
from ..io.source import SourceImage
from ..plots import class_colours
from ..transforms import edge_marks, upright_array, upright_aspect

__all__ = ["draw_overlay", "grey_window", "marks_of", "outline_colours", "overlay_picture"]


WINDOW = (0.5, 99.8)  # percentiles of an image that are black and white
MOST_COUNTED = 2**16  # pixels of a slice, for them
OUTLINE, MARK = "#ff5252", "#ffe082"
# Of the letters at the edges: a fraction of width and height, and the anchor of the text in Pillow.
PLACES = {
    "left": ((0.02, 0.5), "lm"),
    "right": ((0.98, 0.5), "rm"),
    "top": ((0.5, 0.02), "ma"),
    "bottom": ((0.5, 0.98), "md"),
}
MOST_SLICES, PER_ROW = 12, 4
WIDE, NARROW = 640, 320  # columns of the picture of a slice: alone, and among others
GAP, FONT_SIZE, SMALL_FONT_SIZE = 6, 14, 12
LINE_WIDTH = 2
# One byte a pixel, which is packed three times as fast as three: greys, and behind them the colours of the outlines.
GREYS = 240


def _shown(volume: np.ndarray, probability: np.ndarray) -> list[int]:
    """Slices with tumour, when there are many evenly chosen and the largest; without, the one that came nearest."""
    areas = (volume > 0).sum(axis=(0, 1))
    with_tumour = np.flatnonzero(areas)
    if with_tumour.size == 0:
        return [int(probability.max(axis=(0, 1)).argmax())]
    even = np.linspace(0, with_tumour.size - 1, min(MOST_SLICES, with_tumour.size)).round().astype(int)
    chosen, largest = with_tumour[even], areas.argmax()
    chosen[np.abs(chosen - largest).argmin()] = largest
    return [int(index) for index in chosen]


def overlay_picture(
    image: np.ndarray,
    meta: Mapping[str, Any],
    masks: np.ndarray,
    probability: np.ndarray,
    title: str = "",
    mask_names: Sequence[str] = ("tumour",),
    marks: Mapping[str, str] | None = None,
) -> Image.Image:
    """Draw a slice, or the slices of a volume with tumour (at most 12), upright, in true proportions up to 2 : 1.

    Without tumour, the slice whose probability came highest is drawn. Of several classes, each has a colour of its own,
    named below. Slices are counted from 1.

    Args:
        image: (X, Y) or (X, Y, Z), as `read_image` gives it.
        meta: its metadata, of which ``affine`` and ``spacing`` are used.
        masks: of the shape of the image, 0 or 1; of several classes (C, X, Y) or (C, X, Y, Z).
        probability: of the shape of the image, the highest of all classes.
        title: above the picture, in one line or more; without one there is no room for it.
        mask_names: of the classes.
        marks: letters at the edges, see `edge_marks`; ``None`` where the orientation is not known.

    Returns:
        A picture with a palette: 240 greys, then the colours of the outlines and of the letters.
    """
    affine = meta["affine"]
    image, probability = upright_array(image, affine), upright_array(probability, affine)
    masks = np.stack([upright_array(mask, affine) for mask in (masks if len(mask_names) > 1 else [masks])])
    aspect = upright_aspect(affine, meta["spacing"])
    slices = _shown(np.asarray(masks.any(axis=0)), probability)
    columns = min(PER_ROW, len(slices))
    width = WIDE if len(slices) == 1 else NARROW
    height = round(width * min(2.0, max(0.5, aspect * image.shape[1] / image.shape[0])))
    numbered = image.shape[2] > 1
    colours = outline_colours(len(masks))

    head = _Text(title, columns * (width + GAP) - GAP, FONT_SIZE) if title else None
    caption = SMALL_FONT_SIZE + GAP if numbered else 0
    top = head.height if head is not None else 0
    rows = -(-len(slices) // columns)
    bottom = top + rows * (caption + height + GAP) - GAP
    legend = _legend_rows(mask_names) if len(masks) > 1 else []
    total = bottom + len(legend) * (FONT_SIZE + GAP) + (GAP if legend else 0)
    picture = Image.new("P", (columns * (width + GAP) - GAP, total), 0)
    picture.putpalette(_palette([*colours, MARK]))
    draw = ImageDraw.Draw(picture)
    for place, index in enumerate(slices):
        corner = (place % columns * (width + GAP), top + place // columns * (caption + height + GAP) + caption)
        if numbered:
            _Text(f"slice {index + 1} of {image.shape[2]}", width, SMALL_FONT_SIZE).paste(
                picture, corner[0], corner[1] - caption
            )
        picture.paste(_grey(image[..., index], (width, height)), corner)
        _outline(picture, masks[..., index], corner, (width, height))
        for edge, letters in (marks or {}).items():
            _mark(draw, corner, (width, height), edge, letters, GREYS + len(colours))
    if head is not None:
        head.paste(picture, 0, 0)
    for number, names in enumerate(legend):
        _draw_legend(picture, draw, names, mask_names, bottom + GAP + number * (FONT_SIZE + GAP))
    return picture


def outline_colours(count: int) -> Sequence[str]:
    """A colour for each class; of a single mask, that of all outlines."""
    return [OUTLINE] if count == 1 else class_colours(count)


def marks_of(source: SourceImage) -> dict[str, str] | None:
    """`edge_marks` of an image; ``None`` where its file does not say how the slices lie."""
    return edge_marks(source.affine) if source.orientation_known else None


def _mark(draw: ImageDraw.ImageDraw, corner: tuple[int, int], size: tuple[int, int], edge: str, letters: str, ink: int):
    (x, y), anchor = PLACES[edge]
    place = (corner[0] + x * size[0], corner[1] + y * size[1])
    # With a border of black, it is readable on bright tissue too.
    draw.text(place, letters, ink, _font(FONT_SIZE), anchor=anchor, stroke_width=2, stroke_fill=0)


def draw_overlay(
    image: np.ndarray,
    meta: Mapping[str, Any],
    masks: np.ndarray,
    probability: np.ndarray,
    path: str | Path,
    title: str = "",
    mask_names: Sequence[str] = ("tumour",),
    marks: Mapping[str, str] | None = None,
) -> None:
    """Write `overlay_picture` to the PNG ``path``."""
    picture = overlay_picture(image, meta, masks, probability, title, mask_names, marks)
    with atomic_write(path) as temporary:
        # Level 1 takes a third of the time of zlib's default, for files that are 10 % larger.
        picture.save(temporary, compress_level=1)


def grey_window(image: np.ndarray, most: int) -> tuple[float, float]:
    """The grey values of black and white, from every n-th pixel along both axes where there are more than ``most``."""
    every = max(1, round((image.size / most) ** 0.5))
    black, white = np.percentile(image[::every, ::every], WINDOW)
    return float(black), float(white)


def _grey(plane: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A slice, (X, Y), as a picture of the first `GREYS` values, without the brightest and darkest few pixels."""
    low, high = grey_window(plane, MOST_COUNTED)
    # To bytes first: a picture of floating-point numbers takes longer to resize.
    scaled = (plane.T.astype(np.float32) - np.float32(low)) * np.float32((GREYS - 1) / max(high - low, 1e-6))
    pixels = np.ascontiguousarray(np.rint(np.clip(scaled, 0, GREYS - 1)).astype(np.uint8))
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    return Image.frombytes("P", size, picture.tobytes())


def _outline(picture: Image.Image, masks: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """The outlines of masks, (C, X, Y), over the picture of the slice: the outermost pixels of each, enlarged.

    Tracing contours takes ten times as long, where a mask has many small parts.
    """
    for number, mask in enumerate(masks):
        if not mask.any():
            continue
        pixels = np.ascontiguousarray(mask.T).astype(np.uint8) * np.uint8(255)
        large = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)) > 127
        # Padded, so that a mask at the border has a closed outline.
        inner = np.pad(large, LINE_WIDTH)
        for _ in range(LINE_WIDTH):
            inner = inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        picture.paste(GREYS + number, corner, Image.fromarray((large & ~inner).astype(np.uint8) * np.uint8(255)))


def _palette(colours: Sequence[str]) -> list[int]:
    greys = np.linspace(0, 255, GREYS).round().astype(int).repeat(3).tolist()
    return greys + [part for colour in colours for part in ImageColor.getrgb(colour)[:3]]


@lru_cache(maxsize=4)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # It has Cyrillic, Greek and accents, which Pillow's own font lacks.
    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


class _Text:
    """White lines of text of at most a width; where one is too long, its middle is left out."""

    def __init__(self, text: str, width: int, size: int) -> None:
        self.font, self.width, self.step = _font(size), width, size + GAP
        self.lines = [_fitted(line, width, self.font) for line in text.split("\n")]
        self.height = len(self.lines) * self.step + GAP // 2

    def paste(self, picture: Image.Image, left: int, top: int, middle: bool = True) -> None:
        grey = Image.new("L", (self.width, self.height), 0)
        draw = ImageDraw.Draw(grey)
        at, anchor = (self.width / 2, "ma") if middle else (0, "la")
        for number, line in enumerate(self.lines):
            draw.text((at, number * self.step + GAP // 2), line, GREYS - 1, self.font, anchor=anchor)
        picture.paste(Image.frombytes("P", grey.size, grey.tobytes()), (left, top))


def _fitted(line: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The middle is left out, since file names differ at their ends."""
    fitted, kept = line, len(line)
    while kept > 2 and font.getlength(fitted) > width:
        kept -= max(1, kept // 20)
        fitted = f"{line[: kept // 2]}…{line[len(line) - kept // 2 :]}"
    return fitted


def _legend_rows(names: Sequence[str]) -> list[list[int]]:
    return [list(range(first, min(first + PER_ROW, len(names)))) for first in range(0, len(names), PER_ROW)]


def _draw_legend(
    picture: Image.Image, draw: ImageDraw.ImageDraw, numbers: Sequence[int], names: Sequence[str], top: int
) -> None:
    """A line in the colour of each class, and its name, in equal parts of the width."""
    part = picture.width // len(numbers)
    for place, number in enumerate(numbers):
        middle = top + FONT_SIZE // 2
        draw.line((place * part + GAP, middle, place * part + 4 * GAP, middle), GREYS + number, LINE_WIDTH)
        name = _Text(names[number], part - 6 * GAP, FONT_SIZE)
        name.paste(picture, place * part + 5 * GAP, top - GAP // 2, middle=False)
