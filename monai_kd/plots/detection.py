"""Curves of detection: ROC by slice and FROC by lesion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..io.atomic import atomic_write

__all__ = ["plot_froc", "plot_roc"]

Curve = tuple[ArrayLike, ArrayLike]


def plot_roc(
    curves: Mapping[str, Curve],
    path: str | Path,
    title: str = "",
    points: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Draw receiver operating characteristics of slices.

    Args:
        curves: name of each curve to its shares of marked slices without and with a tumour.
        path: the PNG to write.
        title: title of the picture.
        points: name of each single point, such as the operating point, to its two shares.
    """
    figure, axes = _axes("slices without a tumour that are marked", "slices with a tumour that are marked", title)
    for name, (false, true) in curves.items():
        axes.plot(false, true, drawstyle="steps-post", label=name)
    for name, (false, true) in (points or {}).items():
        axes.plot(false, true, "o", label=name)
    axes.plot([0, 1], [0, 1], color="#b0b0b0", linewidth=0.8, linestyle="--")
    axes.set_xlim(-0.02, 1.02)
    _save(figure, axes, path)


def plot_froc(curve: Curve, path: str | Path, title: str = "", rates: ArrayLike = ()) -> None:
    """Draw a free-response ROC of lesions; the false marks have a logarithmic axis.

    Args:
        curve: false marks a slice, and the shares of lesions found.
        path: the PNG to write.
        title: title of the picture.
        rates: false marks a slice that are marked by lines.
    """
    figure, axes = _axes("false marks a slice", "lesions found", title)
    false, found = (np.asarray(each, dtype=float) for each in curve)
    axes.plot(false, found, drawstyle="steps-post")
    axes.set_xscale("symlog", linthresh=1 / 16, base=2)
    axes.set_xlim(0, max(2.0, 1.1 * false.max()))
    for rate in np.asarray(rates, dtype=float):
        axes.axvline(rate, color="#b0b0b0", linewidth=0.8, linestyle=":")
    _save(figure, axes, path)


def _axes(x: str, y: str, title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.2, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y, ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.set_title(title, fontsize=10, parse_math=False)
    return figure, axes


def _save(figure: Figure, axes: Any, path: str | Path) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
