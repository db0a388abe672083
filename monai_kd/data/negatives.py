"""Entries of a data list for slices without a tumour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["NO_TUMOUR", "is_negative", "negative_class", "with_negatives"]

NO_TUMOUR = "no tumour"


def is_negative(entry: Any) -> bool:
    """Whether an entry of a data list is marked as a slice without a tumour: ``"tumour": false``.

    Example:
        >>> is_negative({"tumour": False}), is_negative({"image": "a.png"})
        (True, False)
    """
    return isinstance(entry, dict) and entry.get("tumour") is False


def negative_class(class_names: Sequence[str]) -> int:
    """The number of the class "no tumour"; without it, the number after the last class."""
    return class_names.index(NO_TUMOUR) if NO_TUMOUR in class_names else len(class_names)


def with_negatives(entries: Sequence[dict], datalist: dict, path: Path) -> list[dict]:
    """The entries, in which slices without a tumour have all keys, since the items of a batch must have the same."""
    for entry in entries:
        if not is_negative(entry) and entry.get("label") is not None and entry["label"] == entry["image"]:
            raise ValueError(
                f"{path}: the entry {entry} has its image as its label. Name the file of its mask, or mark a slice "
                'without a tumour by "tumour": false, without a label.'
            )
    if not any("tumour" in entry for entry in datalist["training"]):
        return list(entries)
    labels = datalist.get("labels")
    # Others than a mapping are refused where names are needed, see `class_names`.
    number = negative_class(list(labels.values()) if isinstance(labels, dict) else [])
    return [
        {"class": number, **entry, "label": entry.get("label") or entry["image"]}
        if is_negative(entry)
        else {"tumour": True, **entry}
        for entry in entries
    ]
