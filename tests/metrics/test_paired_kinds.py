"""Classifiers compared of which one knows "no tumour"."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_roc_auc

from monai_kd.__main__ import main
from monai_kd.metrics import paired_differences, paired_presence, with_kinds, write_rows

NONE = "no tumour"
KINDS = ("glioma", "meningioma")


def slices(seed: int, names: tuple[str, ...], negatives: bool = True) -> list[dict]:
    """Slices as `read_slices` gives them; their true classes are the same for every seed."""
    truth, random, rows = np.random.default_rng(9), np.random.default_rng(seed), []
    for number in range(40):
        true = [*KINDS, NONE][truth.integers(3 if negatives else 2)]
        p = random.dirichlet(np.where(np.array(names) == true, 3.0, 1.0))
        predicted = names[int(p.argmax())]
        rows.append(
            {"image": str(number), "group": str(number % 8), "class_name": true, "correct": float(predicted == true)}
            | {f"p_{name}": float(value) for name, value in zip(names, p, strict=True)}
        )
    return rows


def test_the_kind_is_asked_for_among_the_kinds_alone():
    three, two = slices(1, (*KINDS, NONE)), slices(2, KINDS)
    first, second = with_kinds(three, two, NONE)
    for given, found in ((three, first), (two, second)):
        for row, own in zip(given, found, strict=True):
            likely = max(KINDS, key=lambda kind: row[f"p_{kind}"])
            wanted = None if row["class_name"] == NONE else float(likely == row["class_name"])
            assert own["correct_kinds"] == wanted
            assert own["correct"] == row["correct"]
    ill = [row for row in first if row["class_name"] != NONE]
    found = paired_differences(first, second, 50)["correct_kinds"]
    assert found["slices"] == len(ill) < len(first)
    assert found["first"] == pytest.approx(np.mean([row["correct_kinds"] for row in ill]))


def test_two_that_know_the_class_are_compared_in_presence():
    first, second = with_kinds(slices(1, (*KINDS, NONE)), slices(2, (*KINDS, NONE)), NONE)
    found = paired_presence(first, second, 50)["auc p_tumour"]
    for which, rows in (("first", first), ("second", second)):
        scores = torch.tensor([1 - row[f"p_{NONE}"] for row in rows])
        shown = torch.tensor([row["class_name"] != NONE for row in rows]).int()
        assert found[which] == pytest.approx(float(compute_roc_auc(scores, shown)))


def test_one_that_does_not_know_the_class_has_no_presence_score():
    assert paired_presence(*with_kinds(slices(1, (*KINDS, NONE)), slices(2, KINDS), NONE)) == {}


def test_without_the_class_nothing_is_added():
    rows = slices(1, KINDS, negatives=False)
    assert with_kinds(rows, rows, NONE) == (rows, rows)
    segmented = [{"image": "1", "group": "1", "dice": 0.5}]
    assert with_kinds(segmented, segmented, NONE) == (segmented, segmented)


def test_the_command_compares_the_kinds(tmp_path, capsys):
    for name, classes in (("a", KINDS), ("b", (*KINDS, NONE))):
        (tmp_path / name).mkdir()
        write_rows(slices(3, classes, negatives=False), tmp_path / name / "slices.csv")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "correct_kinds  40" in capsys.readouterr().out


def test_a_probability_that_is_no_number_is_refused(tmp_path, capsys):
    rows = slices(3, (*KINDS, NONE))
    rows[4]["p_glioma"] = "x"
    (tmp_path / "a").mkdir()
    write_rows(rows, tmp_path / "a" / "slices.csv")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "a")]) == 2
    assert "p_glioma of slice 5" in capsys.readouterr().err
