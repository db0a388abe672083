"""Confusion matrix and reliability diagram of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..io.atomic import atomic_write
from ..metrics.classes import CALIBRATION_BINS, calibration_bins

__all__ = ["plot_confusion", "plot_reliability"]


def plot_confusion(matrix: ArrayLike, class_names: Sequence[str], path: str | Path, title: str = "") -> None:
    """Draw a confusion matrix with counts and shares of the rows; darker cells have larger shares.

    Args:
        matrix: counts, with true classes as rows and predicted classes as columns, as returned by
            `monai_kd.metrics.confusion_matrix`.
        class_names: names in the order of the rows.
        path: the PNG to write.
        title: title of the picture.

    Shape:
        - matrix: (C, C)

    Raises:
        ValueError: the matrix is not (C, C), or a count is negative or not finite.
    """
    counts = np.asarray(matrix, dtype=float)
    number = len(class_names)
    if number < 1 or counts.shape != (number, number):
        raise ValueError(f"a matrix of {number} classes must be ({number}, {number}), got {counts.shape}.")
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ValueError("counts must be finite and not negative.")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    side = 1.15 * number
    figure = Figure(figsize=(side + 2.2, side + 1.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        percent = f"{100 * share:.1f} %" if totals[row, 0] else "–"
        axes.text(
            *(column, row, f"{counts[row, column]:g}\n{percent}"),
            ha="center",
            va="center",
            color="white" if share > 0.55 else "black",
        )
    axes.set_xticks(range(number), class_names, rotation=30, ha="right", rotation_mode="anchor", parse_math=False)
    rows = [f"{name}\n(n = {total:g})" for name, (total,) in zip(class_names, totals, strict=True)]
    axes.set_yticks(range(number), rows, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(1, number) - 0.5, minor=True)
    axes.grid(which="minor", color="#b0b0b0", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    figure.suptitle(title, fontsize=10, parse_math=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


def plot_reliability(
    confidence: ArrayLike,
    correct: ArrayLike,
    path: str | Path,
    title: str = "",
    bins: int = CALIBRATION_BINS,
    counted: str = "slices",
) -> None:
    """Draw a reliability diagram: accuracy by confidence, and below it the number of predictions.

    On the diagonal, accuracy and confidence are equal. The expected calibration error under the title is the mean
    distance between accuracy and mean confidence of a bin, weighted by the counts, as in
    `monai_kd.metrics.class_metrics`.

    Args:
        confidence: probability of the most probable class for each slice or patient.
        correct: whether that class is the true one.
        path: the PNG to write.
        title: title of the picture.
        bins: number of bins, of equal width.
        counted: what the predictions are of, such as ``"slices"``, for the captions.

    Shape:
        - confidence and correct: (N,)

    Raises:
        ValueError: shapes do not fit, there are no predictions, a confidence is outside 0 … 1, or there are no bins.
    """
    sure, right = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    if sure.ndim != 1 or sure.shape != right.shape or not sure.size:
        raise ValueError(f"confidence and correct must be (N,) with N ≥ 1, got {sure.shape} and {right.shape}.")
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError("a confidence lies outside 0 … 1.")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}.")
    number = calibration_bins(sure, bins)
    counts, hits, sums = (np.bincount(number, values, bins) for values in (None, right, sure))
    error = np.abs(hits - sums).sum() / sure.size
    filled = np.flatnonzero(counts)
    middles = (filled + 0.5) / bins
    figure = Figure(figsize=(4.8, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    style = {"width": 1 / bins, "edgecolor": "white", "linewidth": 0.8}
    upper.bar(middles, hits[filled] / counts[filled], color="#1f77b4", label="accuracy", **style)
    upper.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="accuracy = confidence")
    # A bar of height 0 is invisible: the dots distinguish it from an empty bin.
    means = sums[filled] / counts[filled]
    upper.plot(means, hits[filled] / counts[filled], "o", color="#d62728", markersize=4, label="at the mean confidence")
    upper.set(ylabel="accuracy", ylim=(-0.02, 1.02))
    upper.legend(fontsize=8, loc="upper left")
    upper.set_title(f"expected calibration error {error:.3f}, {sure.size} {counted}", fontsize=9)
    lower.bar(middles, counts[filled], color="#7f7f7f", **style)
    lower.set(xlabel="confidence", ylabel=counted, xlim=(0, 1))
    lower.yaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    figure.suptitle(title, fontsize=10, parse_math=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
