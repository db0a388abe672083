"""Slices with the outlines of truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..io.atomic import atomic_write

__all__ = ["OverlayPanel", "class_colours", "draw_legend", "draw_outline", "draw_outlines", "plot_overlays"]

# Bright colours on the slice, dark ones for the captions on white.
TRUTH_COLOUR, PREDICTION_COLOUR = "#3ddc84", "#ff5252"
TRUTH_CAPTION, PREDICTION_CAPTION = "#1b8a4b", "#c62828"
# Okabe and Ito 2008, https://jfly.uni-koeln.de/color/, without black: distinguishable with colour blindness too.
CLASS_COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")
_CELL = 1.9  # inches


@dataclass
class OverlayPanel:
    """One slice to show.

    Attributes:
        image: (X, Y), any range; x is the column of the picture, as in the arrays of MONAI's readers.
        truth: (X, Y), 0 or 1, or (C, X, Y) for several classes; ``None`` when it is not known.
        prediction: (X, Y), 0 or 1, or (C, X, Y) for several classes.
        title: caption of the slice.
        mask_names: names of the classes, in the order of the masks.
    """

    image: np.ndarray
    truth: np.ndarray | None
    prediction: np.ndarray
    title: str = ""
    mask_names: Sequence[str] = ("tumour",)


def class_colours(count: int) -> list[str]:
    """Colours for several classes, for matplotlib; they repeat after the seventh."""
    return [CLASS_COLOURS[number % len(CLASS_COLOURS)] for number in range(count)]


def draw_outline(axes: Axes, mask: np.ndarray, colour: str) -> None:
    """Draw the outline of a mask over ``axes.imshow(image.T)``, without changing the visible part of the image.

    Args:
        axes: axes with an image of the same shape.
        mask: (X, Y), 0 or 1; nothing is drawn for an empty mask.
        colour: colour for matplotlib.
    """
    if mask.any():
        # Padded, so that a mask at the border has a closed outline.
        width, height = mask.shape
        lines = axes.contour(
            np.pad(mask.T, 1), levels=[0.5], colors=[colour], linewidths=1.2, extent=(-1, width, -1, height)
        )
        lines.set_clip_on(False)
        # Otherwise the padding would make the slice smaller than one without an outline.
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def draw_outlines(axes: Axes, masks: np.ndarray, colour: str) -> None:
    """`draw_outline` of one mask in ``colour``, or of the masks of several classes in `class_colours`.

    Args:
        axes: axes with the image.
        masks: (X, Y), or (C, X, Y).
        colour: colour of a single mask.
    """
    if masks.ndim == 2:
        draw_outline(axes, masks, colour)
        return
    for mask, class_colour in zip(masks, class_colours(len(masks)), strict=True):
        draw_outline(axes, mask, class_colour)


def draw_legend(figure: Figure, names: Sequence[str], text: str = "black") -> None:
    """Draw a legend of the `class_colours` below a figure.

    Args:
        figure: figure with constrained layout.
        names: names of the classes.
        text: colour of the names.
    """
    lines = [Line2D([], [], color=colour, linewidth=2) for colour in class_colours(len(names))]
    legend = figure.legend(
        lines, names, loc="outside lower center", ncols=min(4, len(names)), fontsize=8, labelcolor=text, frameon=False
    )
    for label in legend.get_texts():
        label.set_parse_math(False)


def _fit(title: str, length: int = 32) -> str:
    """Shorten lines to the width of a slice; the middle is left out, since file names differ at their ends."""
    half = length // 2
    return "\n".join(x if len(x) <= length else f"{x[: half - 1]}…{x[-half:]}" for x in title.split("\n"))


def plot_overlays(panels: Sequence[OverlayPanel], path: str | Path, title: str = "", per_row: int = 2) -> None:
    """Draw a grid of slices: the image alone, with the truth (green), and with the prediction (red).

    For several classes, each class has its own colour in both, and a legend is drawn below the grid.

    Args:
        panels: the slices; the picture of the truth is left empty where it is not known, and left out if none is known.
        path: the PNG to write.
        title: title of the grid.
        per_row: slices in a row.

    Raises:
        ValueError: there are no panels.
    """
    if not panels:
        raise ValueError("there are no slices to draw.")
    names = panels[0].mask_names
    several = len(names) > 1
    with_truth = any(panel.truth is not None for panel in panels)
    columns = 3 if with_truth else 2
    per_row = min(per_row, len(panels))
    rows = -(-len(panels) // per_row)
    tall = max(panel.image.shape[1] / panel.image.shape[0] for panel in panels)
    figure = Figure(figsize=(_CELL * columns * per_row, (_CELL * tall + 0.3) * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns * per_row, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for number, panel in enumerate(panels):
        row, first = number // per_row, number % per_row * columns
        cells = grid[row, first : first + columns]
        for axes in cells:
            axes.imshow(panel.image.T, cmap="gray")
        cells[0].set_title(_fit(panel.title), fontsize=7, loc="left", parse_math=False)
        if with_truth and panel.truth is not None:
            draw_outlines(cells[1], panel.truth, TRUTH_COLOUR)
            cells[1].set_title("truth", fontsize=7, color="black" if several else TRUTH_CAPTION)
        draw_outlines(cells[-1], panel.prediction, PREDICTION_COLOUR)
        found = "prediction" if panel.prediction.any() else "no tumour found"
        cells[-1].set_title(found, fontsize=7, color="black" if several else PREDICTION_CAPTION)
    figure.suptitle(title, fontsize=10, parse_math=False)
    if several:
        draw_legend(figure, names)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
