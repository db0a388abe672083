"""Slices without a tumour from a data set folder of their own, such as `python -m data_prep negatives` writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .fold import load_fold
from .foreign_lists import datalist_path
from .leaks import warn_of_leaks
from .negatives import is_negative, negative_class
from .unlabelled import named, with_shared_keys

__all__ = ["add_negatives"]


def add_negatives(
    entries: Callable[[str], list[dict]],
    negatives_dir: str | Path | None,
    class_names: Sequence[str],
    allow_outside: bool = False,
) -> list[dict]:
    """Training slices, and after them all slices of a folder in which no slice has a tumour.

    A warning is logged for patients and images of the folder that are also among the validation slices, see
    `find_leaks`.

    Args:
        entries: of the part ``"training"`` or ``"validation"``, as `load_fold` or `load_classes` returns them.
        negatives_dir: folder with a ``datalist.json`` whose entries all have ``"tumour": false``; ``None`` adds none.
            Its folds are not used: all of its slices are for training.
        class_names: of the classification; the slices get the class "no tumour", or the number after the last one.
        allow_outside: as for `load_fold`.

    Returns:
        All entries, with the same keys, since the items of a batch must have the same.

    Raises:
        FileNotFoundError, ValueError: as for `load_fold`.
        ValueError: a slice of the folder is not marked as one without a tumour.
    """
    training = entries("training")
    if negatives_dir is None:
        return training
    if not datalist_path(Path(negatives_dir).expanduser()).is_file():
        raise FileNotFoundError(
            f"negatives_dir: {negatives_dir} holds no datalist.json; make it from volumes of heads without a tumour by "
            "`python -m data_prep negatives FOLDER VOLUMES`."
        )
    found = load_fold(negatives_dir, None, "all", allow_outside=allow_outside)
    if marked := [entry for entry in found if not is_negative(entry)]:
        raise ValueError(
            f"negatives_dir: {datalist_path(negatives_dir)} must list slices without a tumour alone, each with "
            f'"tumour": false, and {len(marked)} of {len(found)} have no such mark, such as {marked[0]["image"]}.'
        )
    warn_of_leaks(found, entries("validation"), "negatives_dir: ")
    number = negative_class(class_names)
    added = [{"labelled": True, **named(entry), "class": number} for entry in found]
    return with_shared_keys([{"tumour": True, **named(entry)} for entry in training] + added)
