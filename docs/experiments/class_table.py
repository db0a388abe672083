"""The rows of the tables of classification in docs/results.md, from what evaluate.json wrote.

python docs/experiments/class_table.py runs/cls/hybrid/evaluation runs/cls/none/evaluation
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def number(found: float | None, digits: int) -> str:
    """A number; a dash where it is undefined."""
    return "–" if found is None else f"{found:.{digits}f}"


def percent(found: float | None, digits: int = 1) -> str:
    return number(None if found is None else 100 * found, digits)


def with_interval(found: dict) -> str:
    """In percent, with its interval, which a single patient, for instance, has not."""
    interval = found["interval_95"]
    return percent(found["value"]) + ("" if interval is None else " [{}, {}]".format(*map(percent, interval)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", type=Path, nargs="+")
    for folder in parser.parse_args().evaluations:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        slices, patients = found["over_slices"], found["over_patients"]
        cells = [
            folder.parent.name,
            with_interval(slices["metrics"]["accuracy"]),
            with_interval(patients["metrics"]["accuracy"]),
            *(percent(slices["metrics"][name]["value"]) for name in ("balanced_accuracy", "macro_f1")),
            *(number(slices["metrics"][name]["value"], 3) for name in ("auc", "kappa", "ece")),
            *(percent(each["recall"], 0) for each in slices["classes"].values()),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
