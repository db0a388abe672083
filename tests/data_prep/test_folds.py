"""Folds: groups stay together, cvind.mat counts where it can, and what it lacks is said."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from data_prep.folds import FoldError, folds_by_group, folds_by_slice, folds_from_cvind, group_of


def folds_of_groups(groups: list[str], folds: list[int]) -> dict[str, set[int]]:
    found = defaultdict(set)
    for group, fold in zip(groups, folds, strict=True):
        found[group].add(fold)
    return found


def test_groups_as_in_the_real_list(figshare: Path) -> None:
    with open(figshare / "slices.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3064
    assert [group_of(row["pid"]) for row in rows] == [row["group"] for row in rows]


def test_by_group_is_balanced_on_the_real_list(figshare: Path) -> None:
    with open(figshare / "slices.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    groups, labels = [row["group"] for row in rows], [int(row["label"]) for row in rows]
    made = folds_by_group(groups, labels)
    assert made.how == "by group"
    assert made.warnings == []
    assert all(len(folds) == 1 for folds in folds_of_groups(groups, made.folds).values())
    table = np.zeros((5, 3))
    np.add.at(table, (made.folds, np.array(labels) - 1), 1)
    assert np.abs(table / table.mean(axis=0) - 1).max() < 0.1
    assert folds_by_group(groups, labels).folds == made.folds
    assert folds_by_group(groups, labels, seed=1).folds != made.folds


def test_cvind_splitting_a_group_is_mended_and_said() -> None:
    groups = ["a", "a", "a", "b", "b", "c"]
    made = folds_from_cvind([1, 2, 3, 4, 5, 6], groups, [1] * 6, [1, 1, 2, 2, 2, 3])
    assert made.folds == [0, 0, 0, 1, 1, 2]
    assert made.notes == {2: "fold 1 in cvind.mat, moved to keep its group together"}
    assert made.how == "cvind.mat"
    assert len(made.warnings) == 1
    assert "splits 1 groups" in made.warnings[0]
    assert "1 slices" in made.warnings[0]


@pytest.mark.parametrize("cvind", [[1, 2], [2, 1], [2, 1, 1, 2], [2, 2, 1, 1]])
def test_a_tie_between_folds_goes_to_the_lower_one(cvind: list[int]) -> None:
    """And not to the one that the first file happens to be in."""
    made = folds_from_cvind(range(1, len(cvind) + 1), ["a"] * len(cvind), [1] * len(cvind), cvind)
    assert made.folds == [0] * len(cvind)


def test_cvind_longer_and_lacking() -> None:
    # Slices 2 and 3 are absent, 4 has no fold but its group has, 900 lies beyond the end, "x" has no number.
    groups = ["a", "b", "b", "c", "d"]
    cvind = [2, 1, 1, 0, 1, 1, 1]
    made = folds_from_cvind([1, 4, 5, 900, None], groups, [1, 2, 2, 3, 3], cvind)
    assert made.folds[:3] == [1, 0, 0]
    assert set(made.notes) == {1, 3, 4}
    assert "no fold for 3 slices" in made.warnings[0]
    assert {made.folds[3], made.folds[4]} == {0, 1}, "the two spare ones are dealt out evenly"


def test_cvind_for_none_of_the_slices_falls_back_to_groups() -> None:
    made = folds_from_cvind([8, 9], ["a", "b"], [1, 2], [1, 2])
    assert made.how == "by group"
    assert any("no fold for any" in warning for warning in made.warnings)


def test_cvind_with_nonsense() -> None:
    with pytest.raises(FoldError, match=r"slice 2 the fold 1\.5"):
        folds_from_cvind([1, 2], ["a", "b"], [1, 2], [1, 1.5])


def test_by_slice_leaks_and_says_so() -> None:
    groups = ["a"] * 10 + ["b"] * 10
    made = folds_by_slice([1] * 10 + [2] * 10)
    assert made.how == "by slice (leaks patients)"
    assert "several folds" in made.warnings[0]
    assert all(len(folds) > 1 for folds in folds_of_groups(groups, made.folds).values())
    table = np.zeros((5, 2))
    np.add.at(table, (made.folds, [0] * 10 + [1] * 10), 1)
    assert (table == 2).all(), "each fold has its share of each label"


@pytest.mark.parametrize("number", [-1.0, 0.5, 1.5, 101.0, float("inf"), -float("inf")])
def test_numbers_that_are_no_folds(number: float) -> None:
    with pytest.raises(FoldError, match=r"cvind\.mat gives slice 2 the fold .*; 1, 2, 3 \.\.\. are expected"):
        folds_from_cvind([1, 2], ["a", "b"], [1, 2], [1.0, number])


def test_too_few_groups() -> None:
    with pytest.raises(FoldError, match="4 folds cannot be made from 3 groups"):
        folds_by_group(["a", "b", "c"], [1, 2, 3], 4)
    made = folds_by_group(["a", "b", "c"], [1, 2, 3])
    assert sorted(made.folds) == [0, 1, 2]
    assert "3 folds instead of 5" in made.warnings[0]
