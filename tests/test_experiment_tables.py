"""The rows of the tables in docs/results.md, also where a value is undefined."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from disc_slices import write_disc_slices

from monai_kd.metrics import MASK_METRICS, summarise_classes, summarise_masks

SCRIPTS = Path(__file__).parents[1] / "docs" / "experiments"


def printed(script: str, summary: dict, tmp_path: Path, monkeypatch, capsys) -> list[str]:
    folder = tmp_path / "student" / "evaluation"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(summary))
    monkeypatch.setattr(sys, "argv", [script, str(folder)])
    runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    return [cell.strip() for cell in capsys.readouterr().out.strip().strip("|").split("|")]


def slice_of(group: str, kind: int, **metrics: float | None) -> dict:
    named = {"class": kind, "class_name": ("meningioma", "glioma")[kind], "patient": group, "group": group, "fold": 0}
    return {**named, **dict.fromkeys(MASK_METRICS, 0.5), **metrics}


NOWHERE: dict[str, float | None] = dict.fromkeys(("precision", "hd95_mm", "surface_distance_mm"))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # Nothing was predicted anywhere, on one patient: no distance, no interval.
        (
            [slice_of("7", 0, dice=0.0, predicted_area_mm2=0.0, **NOWHERE)],
            ["student", "0.000", "0.000", "0.000", "0.500", "0.500", "–", "–", "–", "1"],
        ),
        # No slice has a tumour, and none was predicted.
        (
            [slice_of("7", 0, **dict.fromkeys(MASK_METRICS))],
            ["student", *["–"] * 8, "0"],
        ),
    ],
)
def test_masks(rows, expected, tmp_path, monkeypatch, capsys):
    for row in rows:
        row["truth_area_mm2"] = 0.0 if row["truth_area_mm2"] is None else row["truth_area_mm2"]
        row["predicted_area_mm2"] = 0.0 if row["predicted_area_mm2"] is None else row["predicted_area_mm2"]
    summary = summarise_masks(rows, resamples=20, seed=0)
    assert printed("table.py", summary, tmp_path, monkeypatch, capsys) == expected


def test_masks_with_intervals(tmp_path, monkeypatch, capsys):
    summary = summarise_masks([slice_of("7", 0), slice_of("8", 1)], resamples=20, seed=0)
    cells = printed("table.py", summary, tmp_path, monkeypatch, capsys)
    assert cells[:5] == ["student", "0.500 [0.500, 0.500]", "0.500", "0.500", "0.500 [0.500, 0.500]"]


def test_classes_of_which_one_has_no_slices(tmp_path, monkeypatch, capsys):
    rows = [
        {
            **{"class": 0, "class_name": "a", "patient": "7", "group": "7", "fold": 0},
            **{"predicted": 0, "predicted_name": "a", "correct": True, "p_a": 0.75, "p_b": 0.25},
        }
    ]
    summary = summarise_classes(rows, ["a", "b"], resamples=20, seed=0)
    cells = printed("class_table.py", summary, tmp_path, monkeypatch, capsys)
    # Calibration error: always right, with a probability of 0.75.
    assert cells == ["student", "100.0", "100.0", "–", "–", "–", "–", "0.250", "100", "–"]


def test_dice_of_masks(tmp_path, monkeypatch, capsys):
    data, masks = write_disc_slices(tmp_path / "data", 3), tmp_path / "masks"
    masks.mkdir()
    entries = json.loads((data / "datalist.json").read_text())["training"]
    for entry, mask_of in zip(entries, (lambda mask: mask, lambda mask: 0 * mask), strict=False):
        label = nib.load(data / entry["label"])
        name = Path(entry["image"]).name.split(".")[0]
        pixels = mask_of(np.asarray(label.dataobj))
        nib.save(nib.Nifti1Image(pixels, label.affine), masks / f"{name}_mask.nii.gz")
    monkeypatch.setattr(sys, "argv", ["mask_dice.py", str(data), str(masks)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "mask_dice.py"), run_name="__main__")
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(f"{masks}: Dice 0.5000 (")
