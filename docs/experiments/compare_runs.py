"""Compare two kinds of runs of the study in pairs, by patient, over folds and seeds.

    python docs/experiments/compare_runs.py runs/seg_lite0_alone_fold?_seed? -- runs/seg_lite0_distilled_fold?_seed?

Before `--` the folders of the first kind, after it those of the second, each with the `evaluation` that study.py wrote
(or another one: --evaluation evaluation_mirrored). Both kinds must have the same folds and seeds. The score of a slice
is its mean over the seeds; intervals and p-values are over patients, see `monai_kd.metrics.paired_differences`. Where a
classifier knows "no tumour", the kinds of tumours are compared (`correct_kinds`, see `monai_kd.metrics.with_kinds`).
Printed are tables in Markdown: each run, each kind, and their difference, overall, by class, and by size of the tumour.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from monai_kd.config.errors import one_line_errors
from monai_kd.data import NO_TUMOUR
from monai_kd.metrics import check_same_data, paired_differences, read_slices, with_kinds
from monai_kd.metrics.paired import COMPARED

AREA = "truth_area_mm2"
SHOWN = (*COMPARED, "correct_kinds")
RUN = re.compile(r"_fold(\w+?)_seed(\d+)")


def read_runs(folders: list[Path], evaluation: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Slices of each run, by its fold and seed.

    Raises:
        FileNotFoundError, ValueError: a run was not evaluated, has no fold and seed in its name, or is there twice.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for folder in folders:
        named = RUN.search(folder.name)
        if named is None:
            raise ValueError(f"{folder}: the name has no fold and seed.")
        if (run := (named.group(1), named.group(2))) in found:
            raise ValueError(f"{folder}: fold {run[0]} with seed {run[1]} is there twice among runs of one kind.")
        check_same_data(folders[0] / evaluation, folder / evaluation)
        found[run] = read_slices(folder / evaluation)
    return found


def over_seeds(runs: dict[tuple[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row a slice, with means over the seeds; a metric that a seed leaves undefined is undefined."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for slices in runs.values():
        for row in slices:
            rows[row["image"]].append(row)
    averaged = []
    for same in rows.values():
        means = {
            name: None if any(row[name] is None for row in same) else float(np.mean([row[name] for row in same]))
            for name in SHOWN
            if name in same[0]
        }
        averaged.append({**same[0], **means})
    return averaged


def parts(rows: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Images of all slices, of each class, and of each third by size of the tumour, where a third has any."""
    found = {"all": {row["image"] for row in rows}}
    for name in sorted({row["class_name"] for row in rows if row.get("class_name")}):
        found[name] = {row["image"] for row in rows if row["class_name"] == name}
    areas = [float(row[AREA]) for row in rows if row.get(AREA)]
    if areas:
        low, high = np.quantile(areas, [1 / 3, 2 / 3])
        limits = {"small": (-np.inf, low), "middle": (low, high), "large": (high, np.inf)}
        for name, (above, up_to) in limits.items():
            found[f"{name} ({max(above, min(areas)):.0f} to {min(up_to, max(areas)):.0f} mm²)"] = {
                row["image"] for row in rows if row.get(AREA) and above < float(row[AREA]) <= up_to
            }
    # Where many sizes are equal, a third may be empty.
    return {name: images for name, images in found.items() if images}


def table(first: list[Path], second: list[Path], evaluation: str, resamples: int, seed: int) -> list[str]:
    """Lines of Markdown.

    Raises:
        FileNotFoundError, ValueError: the runs can't be compared.
    """
    kinds = [read_runs(folders, evaluation) for folders in (first, second)]
    if kinds[0].keys() != kinds[1].keys():
        apart = sorted(kinds[0].keys() ^ kinds[1].keys())
        raise ValueError(f"these have no partner: {', '.join(f'fold {fold} seed {s}' for fold, s in apart)}.")
    check_same_data(first[0] / evaluation, second[0] / evaluation)
    for run in kinds[0]:
        kinds[0][run], kinds[1][run] = with_kinds(kinds[0][run], kinds[1][run], NO_TUMOUR)
    columns = next(iter(kinds[0].values()))[0]
    metric = next(name for name in ("dice", "correct_kinds", "correct") if name in columns)
    lines = [f"| fold | seed | first, {metric} | second, {metric} |", "|---|---|---|---|"]
    for fold, number in sorted(kinds[0]):
        means = [np.mean([row[metric] for row in kind[fold, number] if row[metric] is not None]) for kind in kinds]
        lines.append(f"| {fold} | {number} | {means[0]:.3f} | {means[1]:.3f} |")
    rows = [over_seeds(kind) for kind in kinds]
    lines += [
        "",
        "| part | metric | slices | first | second | difference [95 %] | p |",
        "|---|---|---|---|---|---|---|",
    ]
    for part, images in parts(rows[0]).items():
        chosen = [[row for row in each if row["image"] in images] for each in rows]
        for name, entry in paired_differences(chosen[0], chosen[1], resamples, seed).items():
            if name not in SHOWN or (part != "all" and name != metric):
                continue
            low, high = entry["interval_95"] or (float("nan"), float("nan"))
            # Of one patient there is none.
            p_value = "–" if entry["p_value"] is None else f"{entry['p_value']:.4f}"
            lines.append(
                f"| {part} | {name} | {entry['slices']} | {entry['first']:.3f} | {entry['second']:.3f} | "
                f"{entry['difference']:+.3f} [{low:+.3f}, {high:+.3f}] | {p_value} |"
            )
    return lines


@one_line_errors
def main() -> int:
    words = sys.argv[1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluation", default="evaluation", help="folder inside each run")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("first", type=Path, nargs="+", help="runs of the first kind, then --, then those of the second")
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    second = [Path(word) for word in words[cut + 1 :]]
    if not second:
        parser.error("give the runs of the second kind after --")
    print("\n".join(table(options.first, second, options.evaluation, options.resamples, options.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
