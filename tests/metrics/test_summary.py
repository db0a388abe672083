"""From slices to patients and means: numbers worked out by hand."""

import csv
import json

import numpy as np
import pytest

from monai_kd.metrics import MASK_METRICS, mask_patient_rows, mask_summary_table, summarise_masks, write_rows


def row(group: str, dice: float, patient: str = "", kind: int = 0, **metrics) -> dict:
    named = {"class": kind, "class_name": ("meningioma", "glioma")[kind], "patient": patient or group, "fold": 1}
    return {**named, "group": group, **dict.fromkeys(MASK_METRICS, 1.0), "dice": dice, **metrics}


MISSED = {"precision": None, "hd95_mm": None, "surface_distance_mm": None, "predicted_area_mm2": 0.0}
# one person with two numbers, one with a missed tumour beside a found one, one of whom nothing was found
ROWS = [
    row("7", 0.9, patient="7"),
    row("7", 0.7, patient="7A"),
    row("8", 0.6, hd95_mm=4.0),
    row("8", 0.0, **MISSED),
    row("9", 0.0, kind=1, **MISSED),
]


def test_a_patient_is_a_group_and_undefined_slices_are_left_out_of_its_mean():
    seven, eight, nine = mask_patient_rows(ROWS)
    assert (seven["patients"], seven["slices"], seven["dice"]) == ("7;7A", 2, pytest.approx(0.8))
    assert (eight["missed_tumours"], eight["dice"], eight["hd95_mm"]) == (1, pytest.approx(0.3), 4.0)
    assert (nine["missed_tumours"], nine["dice"], nine["hd95_mm"]) == (1, 0.0, None)


def test_means_and_counts():
    summary = summarise_masks(ROWS, resamples=50, seed=0)
    overall = summary["overall"]
    assert (overall["slices"], overall["patients"], overall["missed_tumours"]) == (5, 3, 2)
    dice, distance = overall["metrics"]["dice"], overall["metrics"]["hd95_mm"]
    assert dice["over_slices"]["mean"] == pytest.approx(2.2 / 5)
    assert dice["over_patients"]["mean"] == pytest.approx((0.8 + 0.3 + 0.0) / 3)
    assert dice["over_slices"]["undefined"] == dice["over_patients"]["undefined"] == 0
    assert (distance["unit"], distance["over_slices"]["mean"]) == ("mm", pytest.approx((1 + 1 + 4) / 3))
    assert (distance["over_slices"]["defined"], distance["over_slices"]["undefined"]) == (3, 2)
    assert (distance["over_patients"]["mean"], distance["over_patients"]["undefined"]) == (pytest.approx(2.5), 1)


def test_by_class():
    classes = summarise_masks(ROWS, resamples=50, seed=0)["classes"]
    assert {name: part["slices"] for name, part in classes.items()} == {"meningioma": 4, "glioma": 1}
    distance = classes["glioma"]["metrics"]["hd95_mm"]["over_slices"]
    assert distance == {"mean": None, "interval_95": None, "defined": 0, "undefined": 1}
    # one patient says nothing about others
    assert classes["glioma"]["metrics"]["dice"]["over_slices"]["interval_95"] is None


def test_is_strict_json():
    json.dumps(summarise_masks(ROWS, resamples=10, seed=0), allow_nan=False)


def test_no_slices():
    with pytest.raises(ValueError, match="no slices"):
        summarise_masks([], 10, 0)


def test_undefined_is_an_empty_cell(tmp_path):
    write_rows(ROWS, tmp_path / "slices.csv")
    with open(tmp_path / "slices.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [each["hd95_mm"] for each in read] == ["1.0", "1.0", "4.0", "", ""]
    assert [path.name for path in tmp_path.iterdir()] == ["slices.csv"]
    with pytest.raises(ValueError, match="no rows"):
        write_rows([], tmp_path / "none.csv")


def test_table_names_every_metric_and_says_what_is_undefined():
    lines = mask_summary_table(summarise_masks(ROWS, resamples=50, seed=0)).splitlines()
    assert lines[0].split() == ["all", "meningioma", "glioma"]
    for metric in MASK_METRICS:
        assert sum(line.split()[0] == metric for line in lines) == 2
    assert any("undefined (1)" in line for line in lines)


def test_several_masks_have_parts_and_columns_of_their_own():
    names = ["glioma", "oedema"]
    columns = {f"{metric}_{name}": 0.5 for name in names for metric in MASK_METRICS}
    rows = [row | columns for row in ROWS]
    rows[0] |= {"dice_glioma": 0.1, "dice_oedema": None, "predicted_area_mm2_oedema": 0.0}
    summary = summarise_masks(rows, 50, 0, names)
    one = summarise_masks(ROWS, 50, 0)
    assert {name: summary[name] for name in one} == one
    assert list(summary) == ["overall", "classes", "masks"]
    glioma, oedema = (summary["masks"][name] for name in names)
    over = glioma["metrics"]["dice"]["over_slices"]
    assert over["mean"] == pytest.approx((0.1 + 0.5 * (len(rows) - 1)) / len(rows))
    assert oedema["metrics"]["dice"]["over_slices"]["undefined"] == 1
    assert (glioma["missed_tumours"], oedema["missed_tumours"]) == (0, 1)
    # the interval is the bootstrap of the column, whatever its name
    renamed = [row | {"dice": row["dice_glioma"]} for row in rows]
    assert over == summarise_masks(renamed, 50, 0)["overall"]["metrics"]["dice"]["over_slices"]
    patients = mask_patient_rows(rows, names)
    assert [list(row)[: len(list(mask_patient_rows(ROWS)[0]))] for row in patients] == [
        list(row) for row in mask_patient_rows(ROWS)
    ]
    first = [row["dice_glioma"] for row in rows if row["group"] == rows[0]["group"]]
    assert patients[0]["dice_glioma"] == pytest.approx(np.mean(first))
    assert patients[0]["missed_tumours_oedema"] == 1
    header = mask_summary_table(summary).splitlines()[0]
    assert header.split() == ["over", "the", "classes", *names]
