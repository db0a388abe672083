"""Runs of two kinds, compared over folds and seeds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from monai_kd.metrics import paired_differences, read_slices, write_rows

FILE = Path(__file__).parents[1] / "docs" / "experiments" / "compare_runs.py"
spec = importlib.util.spec_from_file_location("compare_runs", FILE)
compare_runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compare_runs)


def evaluated(folder: Path, name: str, seed: int, shift: float, fold: str) -> Path:
    """A run with 12 slices of 6 patients; the difficulty of a slice is the same in all runs."""
    common, own = np.random.default_rng(int(fold)), np.random.default_rng(seed)
    rows = [
        {
            "image": f"images/{fold}-{number}.png",
            **{"class_name": ["glioma", "meningioma"][number % 2], "group": f"{fold}-{number // 2}"},
            **{"dice": 0.5 + 0.2 * common.random() + 0.01 * own.random() + shift, "hd95_mm": None if number else 3.0},
            "truth_area_mm2": 100.0 * (number + 1),
        }
        for number in range(12)
    ]
    run = folder / f"{name}_fold{fold}_seed{seed}"
    (run / "evaluation").mkdir(parents=True)
    write_rows(rows, run / "evaluation" / "slices.csv")
    return run


def test_tables(tmp_path):
    first = [evaluated(tmp_path, "alone", seed, 0.0, fold) for fold in "12" for seed in (0, 1)]
    second = [evaluated(tmp_path, "distilled", seed, 0.05, fold) for fold in "12" for seed in (0, 1)]
    lines = compare_runs.table(first, second, "evaluation", 2000, 0)
    assert lines[2].startswith("| 1 | 0 | 0.")
    assert [line.split(" | ")[0] for line in lines[2:6]] == ["| 1", "| 1", "| 2", "| 2"]
    parts = {line.split(" | ")[0].removeprefix("| "): line for line in lines[8:] if " | dice | " in line}
    assert list(parts) == [
        *("all", "glioma", "meningioma"),
        *("small (100 to 467 mm²)", "middle (467 to 833 mm²)", "large (833 to 1200 mm²)"),
    ]
    assert parts["all"].split(" | ")[2] == "24"
    # Seed 0 of both kinds has the same luck: the difference is the shift, and that of seed 1 too.
    assert "+0.050 [+0.050, +0.050]" in parts["all"]
    p_value = float(parts["all"].rstrip(" |").split(" | ")[-1])
    assert p_value == pytest.approx(2 / 2**12, abs=0.002)


def test_one_seed_and_fold_is_the_comparison_of_two_evaluations(tmp_path):
    one = evaluated(tmp_path, "alone", 3, 0.0, "1")
    other = evaluated(tmp_path, "distilled", 3, 0.02, "1")
    lines = compare_runs.table([one], [other], "evaluation", 500, 0)
    expected = paired_differences(read_slices(one / "evaluation"), read_slices(other / "evaluation"), 500)["dice"]
    assert f"{expected['first']:.3f} | {expected['second']:.3f} | {expected['difference']:+.3f}" in "\n".join(lines)


def test_classifiers_that_know_no_tumour_are_compared_by_kinds(tmp_path):
    known = {"p_glioma": 0.3, "p_meningioma": 0.2, "p_no tumour": 0.5}
    folders = []
    for name, probabilities in (("alone", {"p_glioma": 0.4, "p_meningioma": 0.6}), ("negatives", known)):
        folders.append(evaluated(tmp_path, name, 0, 0.0, "1"))
        table = folders[-1] / "evaluation" / "slices.csv"
        kept = [{key: row[key] for key in ("image", "group", "class_name")} for row in read_slices(table)]
        write_rows([{**row, "correct": False, **probabilities} for row in kept], table)
    lines = compare_runs.table([folders[0]], [folders[1]], "evaluation", 100, 0)
    assert "| 1 | 0 | 0.500 | 0.500 |" in lines
    by_class = {line.split(" | ")[0]: line for line in lines if " | correct_kinds | " in line}
    assert "| 0.000 | 1.000 | +1.000" in by_class["| glioma"]
    assert "| 1.000 | 0.000 | -1.000" in by_class["| meningioma"]


def test_sizes_that_are_all_equal_leave_thirds_out():
    rows = [{"image": str(number), "class_name": "glioma", "truth_area_mm2": 5.0} for number in range(4)]
    assert [len(images) for images in compare_runs.parts(rows).values()] == [4, 4, 4]


def test_what_is_refused(tmp_path, capsys, monkeypatch):
    first = [evaluated(tmp_path, "alone", seed, 0.0, "1") for seed in (0, 1)]
    second = [evaluated(tmp_path, "distilled", 0, 0.0, "1")]
    with pytest.raises(ValueError, match="these have no partner: fold 1 seed 1"):
        compare_runs.table(first, second, "evaluation", 100, 0)
    with pytest.raises(ValueError, match="fold 1 with seed 0 is there twice"):
        compare_runs.table([first[0], second[0]], second, "evaluation", 100, 0)
    with pytest.raises(ValueError, match="the name has no fold and seed"):
        compare_runs.table([tmp_path], second, "evaluation", 100, 0)
    monkeypatch.setattr(sys, "argv", ["compare_runs.py", str(first[0]), "--", str(tmp_path / "x_fold1_seed0")])
    assert compare_runs.main() == 2
    assert "error: there is no" in capsys.readouterr().err
