"""Draw what distillation gives beyond accuracy: fewer labels, fewer epochs, a smaller student, 8-bit integers.

    python docs/experiments/beyond_accuracy.py labels PICTURE RUN ...
    python docs/experiments/beyond_accuracy.py epochs PICTURE RUN ...
    python docs/experiments/beyond_accuracy.py size PICTURE RUN ...
    python docs/experiments/beyond_accuracy.py int8 PICTURE DATA MASKS ...

RUN is a folder of study.py, with its evaluation; its name says the network, whether it was distilled, and the fold.
MASKS are folders as mask_dice.py reads them, named `masks_alone_int8` and so on. A point is the mean Dice over the
slices of the fold. Of several folds, those of one fold share a line; of a single one, a bar is the 95 % interval over
patients.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from curves import validated
from mask_dice import dice_of
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_kd.config.errors import one_line_errors
from monai_kd.io.atomic import atomic_write
from monai_kd.io.checkpoints import read_checkpoint

COLOURS = {"alone": "#6b7280", "distilled": "#0f766e", "teacher": "#b45309"}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NAME = re.compile(r"seg_(?P<network>[a-z0-9]+)_(?P<how>alone|distilled)_fold(?P<fold>\d)_seed(?P<seed>\d+)")


@dataclass
class Run:
    """A run of study.py: its folder, who it is, and its fold."""

    folder: Path
    kind: str
    fold: int

    @classmethod
    def of(cls, folder: str) -> Run:
        """The run of a folder.

        Raises:
            ValueError: its name is not that of a run.
        """
        named = NAME.match(Path(folder).name)
        if named is None:
            raise ValueError(f"{folder}: the name is not that of a segmentation of study.py.")
        return cls(Path(folder), "teacher" if named["network"] == "hybrid" else named["how"], int(named["fold"]))

    def dice(self) -> tuple[float, float, float]:
        """Mean Dice over the slices, and the ends of its interval."""
        found = json.loads((self.folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
        dice = found["overall"]["metrics"]["dice"]["over_slices"]
        return dice["mean"], *dice["interval_95"]

    @cached_property
    def label_share(self) -> float:
        """Share of the training patients whose labels are used, in per cent."""
        settings = json.loads((self.folder / "settings.json").read_text(encoding="utf-8"))
        return 100 * settings.get("labelled_share", 1)

    @cached_property
    def weights(self) -> float:
        """Number of weights, in millions, without the running statistics of batch normalisation."""
        state = read_checkpoint(self.folder / "model.pt")
        return sum(value.numel() for name, value in state.items() if not name.endswith(STATISTICS)) / 1e6


def new_axes(x_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel="Dice, unseen fold")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def over(runs: Sequence[Run], value: str, x_label: str) -> tuple[Figure, Axes]:
    """The Dice of each run over one of its values, a line for each fold and kind."""
    figure, axes = new_axes(x_label)
    folds = sorted({run.fold for run in runs})
    for kind, colour in COLOURS.items():
        for number, fold in enumerate(folds):
            own = [run for run in runs if (run.kind, run.fold) == (kind, fold)]
            points = sorted((getattr(run, value), *run.dice()) for run in own)
            if not points:
                continue
            x, dice, low, high = np.array(points).T
            # Side by side, so that bars of one place do not hide each other.
            x = x * 1.03 ** (list(COLOURS).index(kind) - 1)
            label = f"{kind}, fold {fold}" if len(folds) > 1 else kind
            axes.plot(x, dice, "osD^"[number], ls=("-", ":", "--", "-.")[number], color=colour, label=label, ms=5)
            if len(folds) == 1:
                axes.errorbar(x, dice, [dice - low, high - dice], color=colour, alpha=0.4, ls="none", capsize=2)
    axes.set_xscale("log")
    axes.minorticks_off()
    return figure, axes


def labels(words: Sequence[str]) -> Figure:
    runs = [Run.of(word) for word in words]
    figure, axes = over(runs, "label_share", "patients with labels, %")
    shares = sorted({run.label_share for run in runs})
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.legend(fontsize=7)
    return figure


def size(words: Sequence[str]) -> Figure:
    runs = [Run.of(word) for word in words]
    figure, axes = over(runs, "weights", "weights, millions")
    counts = sorted({round(run.weights, 1) for run in runs})
    axes.set_xticks(counts, [f"{count:g}" for count in counts])
    axes.legend(fontsize=7)
    return figure


def epochs(words: Sequence[str]) -> Figure:
    figure, axes = new_axes("epoch")
    folds: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in map(Run.of, words):
        found = validated(run.folder, "dice")
        axes.plot(*zip(*found, strict=True), ".-", color=COLOURS[run.kind], alpha=0.35, lw=1)
        for epoch, dice in found:
            folds[run.kind][epoch].append(dice)
    for kind, found in folds.items():
        means = [(epoch, float(np.mean(dice))) for epoch, dice in sorted(found.items())]
        axes.plot(*zip(*means, strict=True), "o-", color=COLOURS[kind], label=f"{kind}, mean of the runs", lw=2)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)
    return figure


def int8(words: Sequence[str]) -> Figure:
    figure, axes = new_axes("precision of inference")
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for word in words[1:]:
        kind, _, precision = Path(word).name.rpartition("_")
        found[kind.removeprefix("masks_")][precision] = float(
            np.mean([dice for _, dice, _ in dice_of(Path(words[0]), Path(word))])
        )
    for kind, values in found.items():
        axes.plot(list(values), list(values.values()), "o-", color=COLOURS.get(kind, "black"), label=kind)
        for precision, dice in values.items():
            axes.annotate(f"{dice:.3f}", (precision, dice), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.margins(x=0.3, y=0.3)
    axes.legend(fontsize=8)
    return figure


@one_line_errors
def main(words: Sequence[str]) -> int:
    """Draw a picture; the exit code is 0, or 2 for a wrong call."""
    drawn = {"labels": labels, "epochs": epochs, "size": size, "int8": int8}
    if len(words) < 3 + (words[:1] == ["int8"]) or words[0] not in drawn:
        print(__doc__, file=sys.stderr)
        return 2
    figure = drawn[words[0]](words[2:])
    with atomic_write(words[1]) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
