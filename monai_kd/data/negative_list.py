"""Slices without a tumour from a data set folder of their own, such as `python -m data_prep negatives` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .datalist import load_fold
from .foreign_lists import datalist_path
from .negatives import is_negative, negative_class

__all__ = ["add_negatives"]


def add_negatives(
    entries: Sequence[dict], negatives_dir: str | Path | None, class_names: Sequence[str], allow_outside: bool = False
) -> list[dict]:
    """Training slices, and after them all slices of a folder in which no slice has a tumour.

    Args:
        entries: as `load_fold` or `load_classes` returns them.
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
    if negatives_dir is None:
        return list(entries)
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
    number = negative_class(class_names)
    keys = {key for entry in entries for key in entry} | {"tumour"}
    added = [{key: value for key, value in {**entry, "class": number}.items() if key in keys} for entry in found]
    return [{"tumour": True, **entry} for entry in entries] + added
