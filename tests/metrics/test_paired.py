"""Two networks on the same slices."""

from __future__ import annotations

import json

import numpy as np
import pytest

from monai_kd.__main__ import main
from monai_kd.metrics import (
    bootstrap_interval,
    paired_differences,
    paired_table,
    read_slices,
    with_kinds,
    write_rows,
)


def slices(seed: int, shift: float = 0.0, patients: int = 8, each: int = 5) -> list[dict]:
    # A slice is hard or easy for any network (common), and each network has its own luck (own).
    common, own = np.random.default_rng(0), np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        for number in range(each):
            dice = 0.5 + 0.2 * common.standard_normal() + 0.01 * own.standard_normal() + shift
            image = f"images/{patient}-{number}.nii.gz"
            rows.append({"image": image, "group": str(patient), "dice": dice, "hd95_mm": 20 - 10 * dice})
    return rows


def test_slices_of_one_volume_are_compared_one_by_one():
    first, second = slices(1), slices(2, shift=0.05)
    expected = paired_differences(first, second)["dice"]
    for rows in (first, second):
        for row in rows:
            row["image"], _, row["slice"] = row["image"].partition("-")
    assert paired_differences(first, second)["dice"] == expected


def test_difference_is_that_of_the_means_and_its_interval_is_narrow():
    first, second = slices(1), slices(2, shift=0.05)
    found = paired_differences(first, second)["dice"]
    means = [np.mean([row["dice"] for row in rows]) for rows in (first, second)]
    assert found["difference"] == pytest.approx(means[1] - means[0])
    low, high = found["interval_95"]
    assert 0 < low < found["difference"] < high
    totals = [sum(row["dice"] for row in first if row["group"] == str(p)) for p in range(8)]
    alone = bootstrap_interval(totals, [5] * 8, 2000, 0)
    assert high - low < 0.2 * (alone[1] - alone[0])


def test_interval_is_the_bootstrap_of_the_differences():
    first, second = slices(1), slices(2)
    totals = np.zeros(8)
    for a, b in zip(first, second, strict=True):
        totals[int(a["group"])] += b["dice"] - a["dice"]
    assert paired_differences(first, second, 500, 3)["dice"]["interval_95"] == pytest.approx(
        bootstrap_interval(totals, [5] * 8, 500, 3)
    )


def test_swapping_changes_the_sign():
    one, other = (paired_differences(*pair)["dice"] for pair in ((slices(1), slices(2)), (slices(2), slices(1))))
    assert one["difference"] == pytest.approx(-other["difference"])
    assert one["interval_95"] == pytest.approx([-end for end in reversed(other["interval_95"])])
    assert one["better"] == pytest.approx(1 - other["better"])


def test_names_are_read_as_they_were_written(tmp_path):
    """Spreadsheets would run some of these, and terminals others."""
    names = ["=1+1.png", "-a.png", "'=1.png", "a\nb.png", "\u202ea.png", r"a\x41.png", "@\u00e4.png"]
    write_rows([{"image": name, "group": name, "dice": -0.5} for name in names], tmp_path / "slices.csv")
    assert read_slices(tmp_path) == [{"image": name, "group": name, "dice": -0.5} for name in names]


def test_smaller_distances_are_better():
    found = paired_differences(slices(1), slices(1, shift=0.1))
    assert found["dice"]["better"] == found["hd95_mm"]["better"] == 1
    assert found["hd95_mm"]["difference"] == pytest.approx(-1)


def test_a_network_and_itself():
    found = paired_differences(slices(1), slices(1))["dice"]
    assert (found["difference"], found["interval_95"], found["better"]) == (0, [0, 0], 0)


def test_slices_are_matched_by_image_not_by_place():
    found = paired_differences(slices(1), slices(1)[::-1])["dice"]
    assert found["difference"] == 0
    assert found["interval_95"] == [0, 0]


def test_undefined_values_leave_the_pair_out():
    second = slices(1, shift=0.1)
    second[0]["dice"] = None
    assert paired_differences(slices(1), second)["dice"]["slices"] == 39


def test_other_slices_are_refused():
    with pytest.raises(ValueError, match=r"different slices: 1 are in one only, such as images/0-0"):
        paired_differences(slices(1), slices(1)[1:])


def test_overlaps_are_those_of_slices_with_a_tumour():
    rows = [{"image": str(n), "group": str(n), "dice": 0.5, "truth_area_mm2": 10.0} for n in range(4)]
    # Without a tumour: the first is marked, which is a Dice of 0, and the second is not, which leaves it undefined.
    rows += [
        {"image": f"free{n}", "group": "a", "dice": dice, "truth_area_mm2": 0.0} for n, dice in enumerate((0, None))
    ]
    found = paired_differences(rows, [{**row, "dice": row["dice"] and 0.75} for row in rows])["dice"]
    assert (found["slices"], found["first"], found["second"]) == (4, 0.5, 0.75)
    # So are those of each class.
    of_class = [{**row, "dice_a": row["dice"], "truth_area_mm2_a": row["truth_area_mm2"]} for row in rows]
    assert paired_differences(of_class, of_class)["dice_a"]["slices"] == 4


def test_slices_whose_tumours_were_taken_out_of_one_evaluation_are_refused():
    rows = [{"image": str(n), "group": str(n), "dice": 0.5, "truth_area_mm2": 10.0} for n in range(4)]
    other = [{**row, "truth_area_mm2": 0.0} if row["image"] == "2" else row for row in rows]
    with pytest.raises(
        ValueError, match=r"1 of the 4 have a tumour of another size, such as 2\. .*the same negative_share"
    ):
        paired_differences(rows, other)


def test_a_segmentation_and_a_classification_are_refused():
    masks = [{"image": "a", "group": "a", "dice": 0.5, "class_name": "glioma"}]
    classes = [{"image": "a", "group": "a", "correct": 1.0, "class_name": "glioma", "p_no tumour": 0.1}]
    for pair in ((masks, classes), (classes, masks)):
        with pytest.raises(ValueError, match="one of the evaluations is of a segmentation, and the other"):
            with_kinds(*pair, "no tumour")


def test_nothing_in_common():
    rows = [{"image": "a", "group": "1", "correct": 1.0}]
    with pytest.raises(ValueError, match="no metric in common"):
        paired_differences(rows, [{"image": "a", "group": "1", "dice": 0.5}])


def test_tables_come_back_from_files(tmp_path):
    rows = [
        {"image": "a", "group": "1", "dice": 0.5, "hd95_mm": None, "correct": True},
        {"image": "b", "group": "2", "dice": 0.25, "hd95_mm": 4.0, "correct": False},
    ]
    write_rows(rows, tmp_path / "slices.csv")
    found = read_slices(tmp_path)
    assert [row["dice"] for row in found] == [0.5, 0.25]
    assert [row["hd95_mm"] for row in found] == [None, 4.0]
    assert [row["correct"] for row in found] == [1.0, 0.0]
    table = paired_table(paired_differences(found, read_slices(tmp_path / "slices.csv")))
    lines, legend = table.split("\n\n")
    assert [line.split()[0] for line in lines.splitlines()[1:]] == ["dice", "hd95_mm", "correct"]
    assert "Of a distance (mm), less is better." in legend
    without = paired_table(paired_differences(*[[{**row, "hd95_mm": None} for row in found]] * 2))
    assert "mm" not in without


def test_missing_and_foreign_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"evaluate\.json"):
        read_slices(tmp_path)
    (tmp_path / "slices.csv").write_text("file,status\na,ok\n")
    with pytest.raises(ValueError, match="no image and no group"):
        read_slices(tmp_path)


def test_command(tmp_path, capsys):
    for name, seed in (("a", 1), ("b", 2)):
        write_rows(slices(seed), tmp_path / name / "slices.csv")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "100"]) == 0
    expected = paired_differences(slices(1), slices(2), resamples=100)["dice"]
    assert f"{expected['difference']:+.3f}" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.startswith("error: there is no")
    for option, value in (("--resamples", "1"), ("--resamples", "-3"), ("--seed", "-1")):
        assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), option, value]) == 2
        assert capsys.readouterr().err.startswith(f"error: {option} must be ")


def evaluation(folder, sha256: str | None):
    write_rows(slices(1), folder / "slices.csv")
    if sha256 is not None:
        (folder / "metrics.json").write_text(json.dumps({"dataset": {"datalist_sha256": sha256}}))
    return str(folder)


@pytest.mark.parametrize(("one", "other", "code"), [("a", "a", 0), ("a", "b", 2), ("a", None, 0), (None, None, 0)])
def test_equal_names_in_different_data_sets_are_refused(tmp_path, capsys, caplog, one, other, code):
    folders = [evaluation(tmp_path / name, sha256) for name, sha256 in (("one", one), ("other", other))]
    assert main(["compare", *folders, "--resamples", "100"]) == code
    said = capsys.readouterr().err
    assert said.startswith("error: the evaluations ") == (code == 2)
    assert ("different data sets" in said) == (code == 2)
    assert (f"{tmp_path}/other/metrics.json is missing" in caplog.text) == (other is None)
    # the tables themselves are given just as well
    assert main(["compare", *(f"{folder}/slices.csv" for folder in folders), "--resamples", "100"]) == code


def test_what_an_evaluation_says_of_its_worth_is_said(tmp_path, capsys):
    drawn, seen = "SYNTHETIC phantoms: …", "TRAINED ON some of these slices"
    for name, notes in (("a", [drawn, seen]), ("b", [drawn])):
        write_rows(slices(1), tmp_path / name / "slices.csv")
        content = {"dataset": {"datalist_sha256": "0"}, "notes": notes}
        (tmp_path / name / "metrics.json").write_text(json.dumps(content))
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "100"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[2:5] == [f"NOTE on first and second: {drawn}", f"NOTE on first: {seen}", ""]


@pytest.mark.parametrize("content", ["[]", pytest.param("[" * 100_000, id="deep")])
def test_metrics_of_something_else(tmp_path, capsys, content):
    folder = evaluation(tmp_path, None)
    (tmp_path / "metrics.json").write_text(content)
    assert main(["compare", folder, folder]) == 2
    assert "metrics.json was not written by an evaluation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,group,dice\na,1,0.5\nb,2,much\n", r"slices\.csv: dice of slice 2 is 'much', which is not a number"),
        ("image,group,dice\na,1,nan\n", "dice of slice 1 is 'nan', which is not a number"),
        ("image,group,dice\na,1\n", "dice of slice 1 is missing"),
        (b"image,group,dice\n\xff\xfe,1,0.5\n", r"slices\.csv can't be read as a table"),
    ],
)
def test_broken_tables_are_named(tmp_path, text, message):
    (tmp_path / "slices.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_slices(tmp_path)


def test_a_table_that_may_not_be_read(tmp_path, monkeypatch, capsys):
    folder = evaluation(tmp_path, None)

    def refused(_path):
        raise PermissionError("not yours")

    monkeypatch.setattr("monai_kd.evaluation.compare.read_slices", refused)
    assert main(["compare", folder, folder]) == 2
    assert capsys.readouterr().err == "error: not yours\n"


def test_classes_of_masks_are_compared_each_by_its_column(tmp_path):
    def with_classes(rows: list[dict], shift: float) -> list[dict]:
        names = {"dice_a": "dice", "hd95_mm_a b": "hd95_mm"}
        return [row | {column: row[name] + shift for column, name in names.items()} for row in rows]

    first, second = with_classes(slices(1), 0.0), with_classes(slices(2), 0.1)
    write_rows([row | {"truth_area_mm2_a": 1, "class_name": "a"} for row in first], tmp_path / "slices.csv")
    assert read_slices(tmp_path)[0]["hd95_mm_a b"] == first[0]["hd95_mm_a b"]
    found = paired_differences(read_slices(tmp_path), second)
    assert list(found) == ["dice", "hd95_mm", "dice_a", "hd95_mm_a b"]
    for column, metric, smaller in (("dice_a", "dice", False), ("hd95_mm_a b", "hd95_mm", True)):
        differences = np.array([b[metric] - a[metric] + 0.1 for a, b in zip(slices(1), slices(2), strict=True)])
        assert found[column]["difference"] == pytest.approx(differences.mean())
        assert found[column]["better"] == pytest.approx(((differences < 0) if smaller else (differences > 0)).mean())
