"""The rows of the table in docs/results.md, from what evaluate.json wrote.

python docs/experiments/table.py runs/teacher/evaluation runs/none/evaluation runs/kd_plus_plus/evaluation
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def value(found: dict, digits: int = 3) -> str:
    """A mean; a dash where it is undefined."""
    return "–" if found["mean"] is None else f"{found['mean']:.{digits}f}"


def with_interval(found: dict) -> str:
    """A mean with its interval, which a single patient, for instance, has not."""
    interval = found["interval_95"]
    return value(found) + ("" if interval is None else " [{:.3f}, {:.3f}]".format(*interval))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", type=Path, nargs="+")
    for folder in parser.parse_args().evaluations:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        overall = found["overall"]["metrics"]
        cells = [
            folder.parent.name,
            with_interval(overall["dice"]["over_slices"]),
            *(value(part["metrics"]["dice"]["over_slices"]) for part in found["classes"].values()),
            with_interval(overall["dice"]["over_patients"]),
            *(value(overall[name]["over_slices"]) for name in ("iou", "sensitivity", "precision")),
            *(value(overall[name]["over_slices"], digits=1) for name in ("hd95_mm", "surface_distance_mm")),
            str(found["overall"]["missed_tumours"]),
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
