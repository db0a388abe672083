"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..io.atomic import atomic_write

__all__ = ["plot_curves"]


def plot_curves(rows: Sequence[Mapping[str, float]], path: str | Path, title: str = "") -> None:
    """Draw the weighted loss terms and the validation metrics over the epochs.

    Args:
        rows: one mapping for each epoch, as in `monai_kd.handlers.EpochLog`: ``epoch``, ``loss``, ``weighted/<term>``,
            ``val/<metric>``.
        path: the PNG to write.
        title: title of the picture.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("there are no epochs to draw.")
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, metrics = figure.subplots(1, 2)
    names = list(dict.fromkeys(name for row in rows for name in row))
    # Markers, since a single epoch has no line.
    style = {"marker": "o", "markersize": 3, "linewidth": 1.4}

    def draw(axes, name: str, label: str, **kwargs) -> None:
        points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], label=label, **style, **kwargs)

    draw(losses, "loss", "total", color="black")
    for name in names:
        # A term of weight 0 can't be drawn on a logarithmic axis.
        if name.startswith("weighted/") and any(row.get(name) for row in rows):
            draw(losses, name, name.removeprefix("weighted/"))
        elif name.startswith("val/"):
            draw(metrics, name, name.removeprefix("val/"))
    losses.set(xlabel="epoch", ylabel="weighted training loss", yscale="log")
    metrics.set(xlabel="epoch", ylabel="validation", ylim=(-0.02, 1.02))
    for axes in (losses, metrics):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[1]:
            # Outside the axes: there are often too many curves for a free corner.
            axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        axes.set_xlim(rows[0]["epoch"] - 0.5, rows[-1]["epoch"] + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    figure.suptitle(title, parse_math=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
