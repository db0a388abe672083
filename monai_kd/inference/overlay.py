"""An image with the outline of what was found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..io.atomic import atomic_write
from ..io.source import SourceImage
from ..plots import draw_legend, draw_outlines
from ..transforms import edge_marks, upright_array, upright_turn

__all__ = ["draw_overlay", "marks_of", "overlay_figure"]

OUTLINE, MARK = "#ff5252", "#ffe082"
# Of the letters at the edges, in the axes.
PLACES = {"left": (0.02, 0.5), "right": (0.98, 0.5), "top": (0.5, 0.98), "bottom": (0.5, 0.02)}
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
    marks: Mapping[str, str] | None = None,
) -> Figure:
    """Draw a slice, or the slices of a volume with tumour (at most 12), upright and in true proportions.

    Without tumour, the slice whose probability came highest is drawn. Of several classes, each has a colour of its own,
    named below. Slices are counted from 1.

    Args:
        image: (X, Y) or (X, Y, Z), as `read_image` gives it.
        meta: its metadata, of which ``affine`` and ``spacing`` are used.
        masks: of the shape of the image, 0 or 1; of several classes (C, X, Y) or (C, X, Y, Z).
        probability: of the shape of the image, the highest of all classes.
        title: above the picture; without one there is no room for it.
        mask_names: of the classes.
        marks: letters at the edges, see `edge_marks`; ``None`` where the orientation is not known.
    """
    affine = meta["affine"]
    swap, _ = upright_turn(affine)
    image, probability = upright_array(image, affine), upright_array(probability, affine)
    masks = np.stack([upright_array(mask, affine) for mask in (masks if len(mask_names) > 1 else [masks])])
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
            axes.set_title(f"slice {index + 1} of {image.shape[2]}", fontsize=8, color="white", pad=2)
        for edge, letters in (marks or {}).items():
            _mark(axes, edge, letters)
    for axes in figure.axes:
        axes.axis("off")
    if title:
        figure.suptitle(title, fontsize=9, color="white", parse_math=False)
    if len(masks) > 1:
        draw_legend(figure, mask_names, "white")
    return figure


def marks_of(source: SourceImage) -> dict[str, str] | None:
    """`edge_marks` of an image; ``None`` where its file does not say how the slices lie."""
    return edge_marks(source.affine) if source.orientation_known else None


def _mark(axes: Axes, edge: str, letters: str) -> None:
    x, y = PLACES[edge]
    horizontal = {0.02: "left", 0.5: "center", 0.98: "right"}[x]
    vertical = {0.02: "bottom", 0.5: "center", 0.98: "top"}[y]
    text = axes.text(x, y, letters, color=MARK, fontsize=9, ha=horizontal, va=vertical, transform=axes.transAxes)
    # Readable on bright tissue too.
    text.set_path_effects([withStroke(linewidth=2, foreground="black")])


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
    """Write `overlay_figure` to the PNG ``path``."""
    figure = overlay_figure(image, meta, masks, probability, title, mask_names, marks)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
