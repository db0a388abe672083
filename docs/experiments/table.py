"""The rows of the table in docs/results.md, from what evaluate.json wrote.

python docs/experiments/table.py runs/teacher/evaluation runs/none/evaluation runs/kd_plus_plus/evaluation
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def value(mean: dict, digits: int = 3) -> str:
    low, high = mean["interval_95"]
    return f"{mean['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", type=Path, nargs="+")
    for folder in parser.parse_args().evaluations:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        overall = found["overall"]["metrics"]
        cells = [
            folder.parent.name,
            value(overall["dice"]["over_slices"]),
            *(f"{part['metrics']['dice']['over_slices']['mean']:.3f}" for part in found["classes"].values()),
            value(overall["dice"]["over_patients"]),
            *(f"{overall[name]['over_slices']['mean']:.3f}" for name in ("iou", "sensitivity", "precision")),
            *(f"{overall[name]['over_slices']['mean']:.1f}" for name in ("hd95_mm", "surface_distance_mm")),
            str(found["overall"]["missed_tumours"]),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
