"""What the presence rule costs and spares at several specificities; see docs/examinations.md.

    python docs/experiments/rule_table.py RUN/evaluation_negatives [--elsewhere RUN/evaluation_heads …]

Of an evaluation of a segmentation on slices with and without a tumour, such as by `--negative_share 0.5`: for each
specificity the threshold of the presence score, chosen as `--specificity` does, the sensitivity by slice, and the Dice
of the slices with a tumour where the masks of those below the threshold are emptied. The first row is without a rule,
by the masks alone. `--elsewhere` names evaluations of the same network on other slices: there, so many of the slices
without a tumour keep a mark, and so many of those with one, whose Dice follows. Where the evaluations were made with a
classifier, the scores are those of both. The rows are Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_kd.config.errors import one_line_errors
from monai_kd.metrics import choose_operating_point, read_slices

SPECIFICITIES = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95)
AREA = "truth_area_mm2"


class Slices:
    """Scores, Dice, masks and truth of the slices of an evaluation."""

    def __init__(self, folder: Path, score: str) -> None:
        rows: Sequence[Mapping[str, Any]] = read_slices(folder)
        column = f"presence_{score}"
        if column not in rows[0]:
            raise ValueError(f"{folder}/slices.csv has no {column}: it is no evaluation of a segmentation.")
        self.scores = np.array([row[column] for row in rows], dtype=float)
        self.present = np.array([row[AREA] > 0 for row in rows])
        self.predicted = np.array([row["predicted_area_mm2"] > 0 for row in rows])
        self.dice = np.array([row["dice"] for row in rows if row[AREA] > 0], dtype=float)

    def dice_from(self, threshold: float) -> str:
        """The mean Dice of the slices with a tumour, if the masks of those below a threshold are emptied."""
        return f"{np.where(self.scores[self.present] >= threshold, self.dice, 0.0).mean():.3f}"

    def marked(self, threshold: float) -> str:
        """How many slices without a tumour keep a mark by a threshold; how many with one, and their Dice."""
        kept = self.predicted & (self.scores >= threshold)
        parts = [kept[self.present == kind] for kind in (False, True)]
        told = [f"{each.sum()} of {len(each)}" for each in parts if len(each)]
        return "; ".join([*told, *([self.dice_from(threshold)] if self.present.any() else [])])


def table(slices: Slices, elsewhere: Sequence[Slices], specificities: Sequence[float], score: str) -> list[list[str]]:
    """The rows, without a rule first."""
    free, present = (slices.predicted[slices.present == kind].mean() for kind in (False, True))
    first = [f"{1 - free:.2f} (no rule)", "–", f"{present:.2f}", slices.dice_from(0.0)]
    rows = [[*first, *(each.marked(0.0) for each in elsewhere)]]
    for specificity in specificities:
        point = choose_operating_point(slices.scores, slices.present, specificity, score, "")
        threshold = point["threshold"]
        found = [f"{point['specificity']:.2f}", f"{threshold:.4f}", f"{point['sensitivity']:.2f}"]
        rows.append([*found, slices.dice_from(threshold), *(each.marked(threshold) for each in elsewhere)])
    return rows


@one_line_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--elsewhere", type=Path, nargs="+", default=[], metavar="EVALUATION")
    parser.add_argument("--specificities", type=float, nargs="+", default=SPECIFICITIES, metavar="SPECIFICITY")
    parser.add_argument("--score", default="top_k_mean")
    given = parser.parse_args(argv)
    slices = Slices(given.evaluation, given.score)
    if slices.present.all() or not slices.present.any():
        raise ValueError(f"{given.evaluation} needs slices with a tumour and without one: give --negative_share.")
    rows = table(slices, [Slices(each, given.score) for each in given.elsewhere], given.specificities, given.score)
    heads = [f"marked in {each.parent.name}/{each.name}" for each in given.elsewhere]
    lines = [["specificity", "threshold", "sensitivity", "Dice of the slices with a tumour, after the rule", *heads]]
    for line in [*lines, ["---"] * (4 + len(heads)), *rows]:
        print(f"| {' | '.join(line)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
