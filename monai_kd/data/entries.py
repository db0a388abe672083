"""What each entry of a data list must be, and what no two of them may share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from .foreign_lists import UNCLASSED
from .negatives import NO_TUMOUR, is_negative
from .unlabelled import identified, is_labelled

__all__ = ["checked_entries"]

_NEEDED = ("image", "class", "patient", "group", "fold", "source")


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _name(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


# The types of what an entry may have, and their names; other keys are left to those who use them.
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "image": (
        lambda v: _text(v) or (isinstance(v, list) and v != [] and all(map(_text, v))),
        "the path of a file, or a list with one for each channel",
    ),
    "label": (lambda v: v is None or _text(v), "the path of a file"),
    **dict.fromkeys(("class", "fold", "slice"), (_count, "a whole number from 0")),
    **dict.fromkeys(("patient", "group"), (_name, "a single name or number")),
    "source": (_text, "text"),
    **dict.fromkeys(("tumour", "labelled"), (lambda v: isinstance(v, bool), "true or false")),
}


def checked_entries(datalist: Mapping[str, Any], path: Path) -> list[dict]:
    """The entries of a data list, those without a label with what `identified` adds.

    Args:
        datalist: with a list ``training``, see `completed`.
        path: of the list, for the errors.

    Raises:
        ValueError: an entry lacks a key, a value is of another type than it must be, ``"labelled": false`` stands
            beside ``tumour``, ``body_part`` is no text, ``labels`` does not name a class, or two entries are of one
            slice. The message has the number of the entry, from 0.
    """
    found = [_checked(entry, f"{path}: entry {number}") for number, entry in enumerate(datalist["training"])]
    _check_body_part(datalist, path)
    _check_classes(datalist, found, path)
    _check_once(found, path)
    return found


def _checked(entry: Any, where: str) -> dict:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {entry!r}; it must be an object with image, patient and so on, see docs/data.md.")
    labelled = is_labelled(entry)
    for key in [key for key in _TYPES if key in entry]:
        # Nobody reads the class of an image without a label, and such an image may be of no fold.
        if not labelled and (key == "class" or (key == "fold" and entry[key] is None)):
            continue
        valid, kind = _TYPES[key]
        if not valid(entry[key]):
            hint = " The class of an image is its 'class', counted from 0." if _is_class(key, entry[key]) else ""
            raise ValueError(f"{where} has the '{key}' {entry[key]!r}; it must be {kind}.{hint}")
    if not labelled:
        if "tumour" in entry:
            raise ValueError(
                f"{where}, {entry.get('image')!r}, has no label, by \"labelled\": false, and has a 'tumour', which is "
                "one: remove one of the two."
            )
        entry = identified(entry)
    needed = [key for key in _NEEDED if key != "class" or (labelled and not is_negative(entry))]
    if lacking := [key for key in needed if key not in entry]:
        image = f", {entry['image']!r}," if "image" in entry else ""
        raise ValueError(f"{where}{image} has no {', '.join(lacking)}; see docs/data.md for what each entry needs.")
    return entry


def _is_class(key: str, value: Any) -> bool:
    """Whether a value may be a class by the key that lists of other programs have for it."""
    return key == "label" and _count(value)


def _check_body_part(datalist: Mapping[str, Any], path: Path) -> None:
    part = datalist.get("body_part")
    if part is not None and not (isinstance(part, str) and part.strip()):
        raise ValueError(
            f'{path}: body_part is {part!r}, and must be a text such as "CHEST"; without it, it is "HEAD".'
        )


def _check_classes(datalist: Mapping[str, Any], entries: Sequence[dict], path: Path) -> None:
    labels = datalist.get("labels")
    if datalist.get(UNCLASSED) or not isinstance(labels, dict) or not labels:
        # Labels that are no names of classes are refused where names are needed, see `class_names`.
        return
    for number, entry in enumerate(entries):
        # Slices without a tumour may be of the number after the last.
        count = len(labels) + (is_negative(entry) and NO_TUMOUR not in labels.values())
        if is_labelled(entry) and entry.get("class", 0) >= count:
            raise ValueError(
                f"{path}: entry {number}, {entry['image']!r}, has the class {entry['class']}; 'labels' names "
                f"{len(labels)}, so that classes are 0 to {count - 1}. Correct the entry, or name the class."
            )


def _check_once(entries: Sequence[dict], path: Path) -> None:
    """Refuse a slice that is listed twice: it would count twice, or be both in training and in validation."""
    seen: dict[tuple[str, ...], dict[int | None, int]] = {}
    for number, entry in enumerate(entries):
        files = tuple(os.path.normpath(path.parent / file) for file in ensure_tuple(entry["image"]))
        slices, chosen = seen.setdefault(files, {}), entry.get("slice")
        # Without "slice", an entry is of all slices of its file.
        before = next(iter(slices.values()), None) if chosen is None else slices.get(chosen, slices.get(None))
        if before is not None:
            of = "" if chosen is None else f', "slice": {chosen}'
            raise ValueError(
                f"{path}: the entries {before} and {number} are both of the image {entry['image']!r}{of}: leave one "
                "of them out."
            )
        slices[chosen] = number
