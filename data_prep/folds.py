"""Assign slices to cross-validation folds."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

BY_FILE, BY_GROUP, BY_SLICE = "cvind.mat", "by group", "by slice (leaks patients)"
DEFAULT_FOLDS = 5

Unit = TypeVar("Unit", bound=Hashable)


class FoldError(Exception):
    """The requested folds cannot be made."""


@dataclass
class Folds:
    """Fold of each slice, counted from 0; `how` they were made; `notes` on single slices by position; `warnings`."""

    folds: list[int]
    how: str
    notes: dict[int, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def group_of(pid: str) -> str:
    """The PID without a trailing letter: `MR040240B` and `MR040240` may be the same person.

    >>> group_of("MR040240B"), group_of("100360")
    ('MR040240', '100360')
    """
    return re.sub(r"(?<=[0-9])[A-Za-z]$", "", pid)


def folds_by_slice(labels: Sequence[int], n: int | None = None, seed: int = 0) -> Folds:
    """Assign slices at random, stratified by label: slices of one patient land in several folds."""
    n, warnings = _number_of_folds(n, len(labels), "slices")
    units = {i: Counter([label]) for i, label in enumerate(labels)}
    warnings.append(
        "folds are made slice by slice: slices of one patient are in several folds, so validation results will be "
        "too optimistic; use --split patient for results that hold for new patients"
    )
    placed = _balanced(units, n, seed, {})
    return Folds([placed[i] for i in range(len(labels))], BY_SLICE, warnings=warnings)


def folds_by_group(groups: Sequence[str], labels: Sequence[int], n: int | None = None, seed: int = 0) -> Folds:
    """Assign whole groups, so that the folds have similar sizes and similar distributions of labels.

    Raises:
        FoldError: `n` is larger than the number of groups.
    """
    n, warnings = _number_of_folds(n, len(set(groups)), "groups of patients")
    placed = _balanced(_label_counts(groups, labels), n, seed, {})
    return Folds([placed[group] for group in groups], BY_GROUP, warnings=warnings)


def folds_from_cvind(
    numbers: Sequence[int | None], groups: Sequence[str], labels: Sequence[int], cvind: Sequence[float], seed: int = 0
) -> Folds:
    """Assign the folds of `cvind.mat`, except that a group never spans two folds.

    A group that cvind splits goes to the fold that most of its slices are in. Groups without any fold number are
    assigned so that the folds stay balanced.

    Args:
        numbers: number of each slice, counted from 1 (its place in cvind), None where the file name is no number.
        groups: group of each slice.
        labels: label of each slice.
        cvind: fold numbers, counted from 1; may be longer or shorter than the slices at hand. 0 and NaN mean none.
        seed: of the random order in which groups of equal size are assigned.

    Raises:
        FoldError: cvind holds values that are not fold numbers.
    """
    given = [_fold_in(cvind, number) for number in numbers]
    if all(fold is None for fold in given):
        result = folds_by_group(groups, labels, seed=seed)
        result.warnings.append("cvind.mat has no fold for any of these slices: folds are made by group instead")
        return result
    n = max(fold for fold in given if fold is not None) + 1
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for group, fold in zip(groups, given, strict=True):
        if fold is not None:
            votes[group][fold] += 1
    known = {group: min(count, key=lambda fold: (-count[fold], fold)) for group, count in votes.items()}
    placed = _balanced(_label_counts(groups, labels), n, seed, known)

    result = Folds([placed[group] for group in groups], BY_FILE)
    for i, (fold, old) in enumerate(zip(result.folds, given, strict=True)):
        if old is None:
            result.notes[i] = "no fold in cvind.mat, given one by group"
        elif old != fold:
            result.notes[i] = f"fold {old} in cvind.mat, moved to keep its group together"
    missing = sum(fold is None for fold in given)
    if missing:
        result.warnings.append(f"cvind.mat has no fold for {missing} slices: they were given one by group")
    split = sum(len(count) > 1 for count in votes.values())
    if split:
        result.warnings.append(
            f"cvind.mat splits {split} groups of patients over several folds: {len(result.notes) - missing} slices "
            "were moved to the fold that most of their group is in (conversion.csv names them)"
        )
    return result


def _fold_in(cvind: Sequence[float], number: int | None) -> int | None:
    if number is None or not 1 <= number <= len(cvind):
        return None
    value = cvind[number - 1]
    if value != value or value == 0:
        return None
    if not 1 <= value <= 100 or value != int(value):
        raise FoldError(f"cvind.mat gives slice {number} the fold {value:g}; 1, 2, 3 ... are expected")
    return int(value) - 1


def _number_of_folds(n: int | None, units: int, what: str) -> tuple[int, list[str]]:
    if n is not None and not 2 <= n <= units:
        raise FoldError(f"{n} folds cannot be made from {units} {what}: --folds-n takes 2 to {max(units, 2)}")
    if n is None and units < DEFAULT_FOLDS:
        return units, [f"only {units} {what}: {units} folds instead of {DEFAULT_FOLDS}"]
    return n or DEFAULT_FOLDS, []


def _label_counts(groups: Sequence[str], labels: Sequence[int]) -> dict[str, Counter[int]]:
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for group, label in zip(groups, labels, strict=True):
        counts[group][label] += 1
    return counts


def _balanced(units: dict[Unit, Counter[int]], n: int, seed: int, known: dict[Unit, int]) -> dict[Unit, int]:
    """Assign units, the largest first, each to the fold where its labels are rarest so far; `known` ones stay."""
    total: Counter[int] = sum(units.values(), Counter())
    held: list[Counter[int]] = [Counter() for _ in range(n)]
    placed = dict(known)
    for unit, fold in known.items():
        held[fold] += units[unit]
    rest = sorted((unit for unit in units if unit not in known), key=str)
    random.Random(seed).shuffle(rest)
    for unit in sorted(rest, key=lambda unit: -units[unit].total()):
        labels = units[unit]

        def load(fold: int, labels: Counter[int] = labels) -> tuple[float, int, int]:
            crowding = sum(held[fold][label] * count / total[label] for label, count in labels.items())
            return crowding, held[fold].total(), fold

        placed[unit] = min(range(n), key=load)
        held[placed[unit]] += labels
    return placed
