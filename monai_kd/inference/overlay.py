"""An image with the outline of what was found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..io.atomic import atomic_write
from ..plots import draw_legend, draw_outlines
from ..transforms import upright_turn

__all__ = ["draw_overlay", "overlay_figure"]

OUTLINE = "#ff5252"
MOST_SLICES, PER_ROW = 12, 4


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


def overlay_figure(
    image: np.ndarray,
    meta: Mapping[str, Any],
    masks: np.ndarray,
    probability: np.ndarray,
    title: str = "",
    mask_names: Sequence[str] = ("tumour",),
) -> Figure:
    """Draw a slice, or the slices of a volume with tumour (at most 12), upright and in true proportions.

    Without tumour, the slice whose probability came highest is drawn. Of several classes, each has a colour of its own,
    named below.

    Args:
        image: (X, Y) or (X, Y, Z), as `read_image` gives it.
        meta: its metadata, of which ``affine`` and ``spacing`` are used.
        masks: of the shape of the image, 0 or 1; of several classes (C, X, Y) or (C, X, Y, Z).
        probability: of the shape of the image, the highest of all classes.
        title: above the picture; without one there is no room for it.
        mask_names: of the classes.
    """
    swap, flips = upright_turn(meta["affine"])

    def turned(array: np.ndarray) -> np.ndarray:
        array = array.reshape(*array.shape[:2], -1)
        array = array.transpose(1, 0, 2) if swap else array
        return array[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]

    image, probability = turned(image), turned(probability)
    masks = np.stack([turned(mask) for mask in (masks if len(mask_names) > 1 else [masks])])
    spacing = np.asarray(meta["spacing"])[:2][:: -1 if swap else 1]
    aspect = 1.0 if np.isnan(spacing).any() else float(spacing[1] / spacing[0])
    slices = _shown(np.asarray(masks.any(axis=0)), probability)
    columns = min(PER_ROW, len(slices))
    rows = -(-len(slices) // columns)
    side = 6.0 if len(slices) == 1 else 3.0
    tall = side * min(2.0, max(0.5, aspect * image.shape[1] / image.shape[0]))
    figure = Figure(
        figsize=(side * columns, tall * rows + (0.45 if title else 0)), layout="constrained", facecolor="black"
    )
    for axes, index in zip(figure.subplots(rows, columns, squeeze=False).flat, slices, strict=False):
        picture = image[..., index].T
        low, high = np.percentile(picture, (0.5, 99.8))
        axes.imshow(picture, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
        drawn = masks[..., index]
        draw_outlines(axes, drawn if len(drawn) > 1 else drawn[0], OUTLINE)
        if image.shape[2] > 1:
            axes.set_title(f"slice {index}", fontsize=8, color="white", pad=2)
    for axes in figure.axes:
        axes.axis("off")
    if title:
        figure.suptitle(title, fontsize=9, color="white", parse_math=False)
    if len(masks) > 1:
        draw_legend(figure, mask_names, "white")
    return figure


def draw_overlay(
    image: np.ndarray,
    meta: Mapping[str, Any],
    masks: np.ndarray,
    probability: np.ndarray,
    path: str | Path,
    title: str = "",
    mask_names: Sequence[str] = ("tumour",),
) -> None:
    """Write `overlay_figure` to the PNG ``path``."""
    figure = overlay_figure(image, meta, masks, probability, title, mask_names)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
