"""The distribution of the scores of slices, or volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..io.atomic import atomic_write

__all__ = ["plot_scores"]


def plot_scores(
    groups: Mapping[str, Sequence[float]], path: str | Path, label: str = "Dice", title: str = "", of: str = "slices"
) -> None:
    """Draw a box plot of each group (quartiles, whiskers to the extremes) with the mean and a dot for each score.

    Args:
        groups: name of each group to its scores, between 0 and 1; groups without scores are left out.
        path: the PNG to write.
        label: label of the axis of scores.
        title: title of the picture.
        of: what has the scores.

    Raises:
        ValueError: no group has a score.
    """
    drawn = {name: np.asarray(scores, dtype=float) for name, scores in groups.items() if len(scores)}
    if not drawn:
        raise ValueError("there are no scores to draw.")
    figure = Figure(figsize=(1.6 + 1.5 * len(drawn), 4.6), layout="constrained")
    axes = figure.subplots()
    places = range(1, len(drawn) + 1)
    # Jitter of the dots, seeded so that the same data give the same picture.
    generator = np.random.default_rng(0)
    for place, scores in zip(places, drawn.values(), strict=True):
        aside = generator.uniform(-0.28, 0.28, len(scores))
        axes.scatter(place + aside, scores, s=9, alpha=0.35, linewidths=0, color="#1f77b4", zorder=1)
    axes.boxplot(
        list(drawn.values()),
        positions=places,
        widths=0.6,
        whis=(0, 100),
        showmeans=True,
        medianprops={"color": "black"},
        meanprops={"marker": "D", "markerfacecolor": "#d62728", "markeredgecolor": "white", "markersize": 7},
        zorder=2,
    )
    names = [f"{name}\n{len(scores)} {of}\nmean {scores.mean():.3f}" for name, scores in drawn.items()]
    axes.set_xticks(list(places), names, parse_math=False)
    axes.set(ylabel=label, ylim=(-0.03, 1.03))
    axes.grid(axis="y", alpha=0.3)
    axes.set_title(title, fontsize=10, parse_math=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
