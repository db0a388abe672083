"""The rows of the tables of classification in docs/results.md, from what evaluate.json wrote.

python docs/experiments/class_table.py runs/cls/hybrid/evaluation runs/cls/none/evaluation
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def value(found: dict, digits: int = 1, scale: float = 100) -> str:
    low, high = found["interval_95"]
    return f"{found['value'] * scale:.{digits}f} [{low * scale:.{digits}f}, {high * scale:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", type=Path, nargs="+")
    for folder in parser.parse_args().evaluations:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        slices, patients = found["over_slices"], found["over_patients"]
        cells = [
            folder.parent.name,
            value(slices["metrics"]["accuracy"]),
            value(patients["metrics"]["accuracy"]),
            *(f"{slices['metrics'][name]['value'] * 100:.1f}" for name in ("balanced_accuracy", "macro_f1")),
            *(f"{slices['metrics'][name]['value']:.3f}" for name in ("auc", "kappa", "ece")),
            *(f"{each['recall'] * 100:.0f}" for each in slices["classes"].values()),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
