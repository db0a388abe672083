"""Slices for classification, by the class of the tumour that they show."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from .datalist import class_names, read_datalist
from .fold import load_fold
from .foreign_lists import UNCLASSED, datalist_path
from .negatives import NO_TUMOUR, is_negative
from .unlabelled import is_labelled

__all__ = ["class_weights", "last_is_alone", "load_classes"]

logger = logging.getLogger(__name__)


def load_classes(
    dataset_dir: str | Path,
    fold: int | None,
    part: str,
    leave_out: Sequence[int] = (),
    allow_outside: bool = False,
    negatives: bool = False,
    labelled_share: float = 1.0,
    unlabelled: bool = False,
) -> list[dict]:
    """`load_fold` for classification, with a check of the classes.

    Entries of the data list need no ``label``, and the returned entries have none, except with ``negatives``. Slices
    without a tumour are of the class "no tumour", a further class of the softmax, so that distillation, calibration and
    metrics need nothing else.
    Classes without slices are an error in the training part; in other parts they are logged as a warning, since metrics
    over all classes are undefined then.

    Args:
        dataset_dir, fold, part, leave_out, allow_outside: as for `load_fold`.
        negatives: whether slices of the class "no tumour" are made, by taking the tumours out of slices, which needs
            their masks: each entry must have a ``label``, and keeps it. None needs to be listed then.
        labelled_share, unlabelled: as for `load_fold`. Where no training slice has a label, no class needs one.

    Raises:
        FileNotFoundError, ValueError: as for `load_fold`.
        ValueError: a slice has no tumour, and ``labels`` of the data list names no such class; ``labels`` names fewer
            than two classes, or a class has no training slice.
    """
    keys = ("image", "label") if negatives else ("image",)
    entries = load_fold(
        *(dataset_dir, fold, part, leave_out, allow_outside, keys),
        labelled_share=labelled_share,
        unlabelled=unlabelled,
    )
    names = class_names(dataset_dir, negatives)
    path = datalist_path(dataset_dir)
    if read_datalist(dataset_dir, allow_outside=True).get(UNCLASSED):
        raise ValueError(f"{path} gives no image a 'class': add it to each entry, counted from 0; see docs/data.md.")
    if len(names) < 2:
        raise ValueError(f"{path} names {len(names)} class in 'labels'; a classification needs at least two.")
    if NO_TUMOUR not in names and any(map(is_negative, entries)):
        raise ValueError(
            f"{path} lists slices without a tumour, and 'labels' names no class for them: add "
            f'"{len(names) + 1}": "{NO_TUMOUR}", or leave these entries out.'
        )
    present = {entry["class"] for entry in entries if is_labelled(entry)}
    listed = [(number, name) for number, name in enumerate(names) if not (negatives and name == NO_TUMOUR)]
    missing = [name for number, name in listed if number not in present]
    if part == "training" and missing:
        if not present:
            return entries
        hidden = "give a larger labelled_share, " if labelled_share < 1 else ""
        raise ValueError(
            f"no training slice shows {', '.join(missing)}: {hidden}choose another fold, leave out fewer folds, or "
            f"take the class out of 'labels' in {path}."
        )
    if missing:
        logger.warning(
            "No slice of the %s part shows %s: balanced accuracy, F1 and AUC are undefined.", part, ", ".join(missing)
        )
    return entries


def class_weights(
    entries: Sequence[dict], names: Sequence[str], how: str | Sequence[float] | None, negatives: float = 0.0
) -> torch.Tensor | None:
    r"""Class weights for the cross-entropy.

    Args:
        entries: the training slices; those without a label don't count.
        names: of the classes, C.
        how: ``None`` for no weights; ``"balanced"`` for :math:`w_c = N / (C \, N_c)`, so that all classes have the same
            total weight; or one number for each class, scaled so that the mean weight of a slice is 1. That is also the
            mean with ``"balanced"``, so that the cross-entropy keeps its scale relative to other terms.
        negatives: share of the other slices that become "no tumour", as which they count.

    Returns:
        (C,), float32; or ``None``.

    Raises:
        ValueError: ``how`` is none of these, or ``"balanced"`` and a class has no slices, or no slice has a label.

    Example:
        >>> class_weights([{"class": 0}, {"class": 0}, {"class": 0}, {"class": 1}], ["a", "b"], "balanced")
        tensor([0.6667, 2.0000])
    """
    if how is None:
        return None
    num_classes, entries = len(names), [entry for entry in entries if is_labelled(entry)]
    found = torch.tensor([entry["class"] for entry in entries], dtype=torch.long)
    counts = torch.bincount(found, minlength=num_classes).float()
    if not entries:
        raise ValueError("class_weights: no training image has a label whose class could be counted: set it to None.")
    if negatives:
        others = torch.tensor([name != NO_TUMOUR for name in names])
        counts = torch.where(others, counts * (1 - negatives), counts + counts[others].sum() * negatives)
    if how == "balanced":
        if (counts == 0).any():
            raise ValueError(
                f"class_weights 'balanced': the classes have {counts.round().int().tolist()} slices; each needs one."
            )
        return len(entries) / (num_classes * counts)
    numbers = isinstance(how, Sequence) and not isinstance(how, str)
    if not numbers or len(how) != num_classes or not all(isinstance(w, (int, float)) and 0 < w < math.inf for w in how):
        raise ValueError(f"class_weights must be None, 'balanced' or {num_classes} positive numbers, got {how!r}.")
    weights = torch.tensor([float(weight) for weight in how])
    return weights * len(entries) / (weights * counts).sum()


def last_is_alone(count: int, batch_size: int) -> bool:
    """Whether the last training batch would hold one slice, on which BatchNorm can't be trained.

    Then the loader should drop that batch, which is another slice in each epoch; a warning is logged.

    Args:
        count: number of slices that this process trains on.
        batch_size: batch size of this process.

    Example:
        >>> last_is_alone(1840, 16), last_is_alone(1841, 16), last_is_alone(5, 1), last_is_alone(1, 4)
        (False, True, False, False)
    """
    alone = 1 < batch_size < count and count % batch_size == 1
    if alone:
        line = (
            "the last batch would hold one of %d slices, and BatchNorm needs two: in each epoch, one slice is left out."
        )
        logger.warning(line, count)
    return alone
