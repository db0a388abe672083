"""The validation metric of several runs over their epochs, in one picture.

python docs/experiments/curves.py dice docs/images/results_curves.png runs/none runs/basic runs/kd_plus_plus
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from matplotlib.figure import Figure


def validated(run: Path, metric: str) -> list[tuple[int, float]]:
    """Each epoch of a run that was validated, and the metric."""
    with open(run / "log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Epochs that were not validated have no value.
    return [(int(row["epoch"]), float(row[name])) for row in rows if row[name := f"val/{metric}"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metric", help="dice or accuracy")
    parser.add_argument("picture", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for run in given.runs:
        axes.plot(*zip(*validated(run, given.metric), strict=True), marker=".", label=run.name)
    axes.set(xlabel="epoch", ylabel=f"{given.metric}, validation")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(given.picture, dpi=110)


if __name__ == "__main__":
    main()
