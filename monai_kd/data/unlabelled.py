"""Images without a label: those that a data list marks, and those whose labels are hidden for an experiment."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..io.kinds import stem_of

__all__ = ["hide_labels", "identified", "is_labelled", "named", "with_shared_keys", "with_unlabelled"]

logger = logging.getLogger(__name__)


def is_labelled(entry: Any) -> bool:
    """Whether an entry of a data list has a label: all have one that are not marked by ``"labelled": false``.

    Example:
        >>> is_labelled({"image": "a.png"}), is_labelled({"image": "a.png", "labelled": False})
        (True, False)
    """
    return not (isinstance(entry, dict) and entry.get("labelled") is False)


def identified(entry: dict) -> dict:
    """An entry without a label, of a patient of its own, named after its file, unless it names one.

    Without a ``fold`` it is ``None``: such an image trains, whatever fold validates.

    Example:
        >>> identified({"image": "more/u1.nii.gz", "labelled": False})["patient"]
        'more/u1'
    """
    # With its folder: a patient of the list may have the name of a file.
    patient = stem_of(str(PurePosixPath(str(entry.get("image")))))
    group = entry.get("patient", patient)
    return {"patient": patient, "group": group, "source": entry.get("image"), "fold": None, **entry}


def hide_labels(entries: Sequence[dict], share: float) -> list[dict]:
    """The entries, of which a share of the patients keep their labels; the others are marked as without.

    Groups of patients keep theirs together. They are chosen by a hash of their names, class by class, so that every
    class keeps its share, of at least one group, and the patients of a smaller share are among those of a larger one.
    A group counts as one of its most frequent class: a class that is never that may lose all of its labels.

    Args:
        entries: of a data list; only those with a label count.
        share: of the groups of each class that keeps its labels, above 0 and up to 1.

    Raises:
        ValueError: ``share`` is not such a number.

    Example:
        >>> slices = [{"group": name, "class": 0} for name in "abcd"]
        >>> [entry["group"] for entry in hide_labels(slices, 0.5) if is_labelled(entry)]
        ['c', 'd']
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
        raise ValueError(f"labelled_share must be above 0 and up to 1, got {share!r}.")
    if share == 1:
        return list(entries)
    classes: dict[Hashable, Counter] = defaultdict(Counter)
    for entry in entries:
        if is_labelled(entry):
            classes[entry["group"]][entry.get("class")] += 1
    groups = defaultdict(list)
    for group, counts in classes.items():
        groups[counts.most_common(1)[0][0]].append(group)
    kept = set()
    for names in groups.values():
        ordered = sorted(names, key=lambda name: hashlib.sha256(str(name).encode()).digest())
        # Rounded first: 0.1 × 30 is a little more than 3.
        kept |= set(ordered[: math.ceil(round(share * len(names), 9))])
    return [entry if entry["group"] in kept else {**entry, "labelled": False} for entry in entries]


def with_unlabelled(entries: Sequence[dict], keep: bool, part: str, path: Path) -> list[dict]:
    """The entries, of which those without a label have all keys, since the items of a batch must have the same.

    Their ``class`` is 0, which says nothing, their ``label`` is the path of their own image, which
    `monai_kd.transforms.EmptyOwnMaskd` reads as an empty mask, and their ``tumour``, where others have it, is true.
    Each entry gets ``labelled``, and what `named` makes of it, and loses what others do not have.

    Args:
        entries: see `hide_labels`.
        keep: whether they are kept; otherwise they are left out, which is logged as a warning.
        part: of the split, for the warning.
        path: of the data list, for the warning.
    """
    without = sum(not is_labelled(entry) for entry in entries)
    if not without:
        marks = any("labelled" in entry for entry in entries)
        return [{**entry, "labelled": True} if marks else entry for entry in entries]
    counts = without, len(entries), part, path
    if not keep:
        logger.warning(
            "%d of the %d %s images of %s have no label, or labelled_share hides it: they are left out.", *counts
        )
        return [{**entry, "labelled": True} for entry in entries if is_labelled(entry)]
    logger.info(
        "%d of the %d %s images of %s have no label, or labelled_share hides it: for them, the loss has only the terms "
        "that compare student and teacher.",
        *counts,
    )
    marked = {"tumour": True} if any("tumour" in entry for entry in entries) else {}
    complete = [
        {"labelled": True, **named(entry)}
        if is_labelled(entry)
        else {**named(entry), "class": 0, "label": entry["image"], **marked}
        for entry in entries
    ]
    return with_shared_keys(complete)


def with_shared_keys(entries: Sequence[dict]) -> list[dict]:
    """Entries with the keys that all of them have, since the items of a batch must have the same.

    Also with ``slice``, where it is there: which slice of a volume an entry is. No item of a batch has it.

    Example:
        >>> with_shared_keys([{"image": "a", "slice": 3, "scanner": "X"}, {"image": "b"}])
        [{'image': 'a', 'slice': 3}, {'image': 'b'}]
    """
    shared = set.intersection(*map(set, entries)) | {"slice"}
    return [{key: value for key, value in entry.items() if key in shared} for entry in entries]


def named(entry: dict) -> dict:
    """An entry that can be in a batch with others: names are text, and no fold is -1.

    Example:
        >>> named({"patient": 7, "fold": None})
        {'patient': '7', 'fold': -1}
    """
    names = {key: str(entry[key]) for key in ("patient", "group", "source") if key in entry}
    return {**entry, **names, **({"fold": -1} if entry.get("fold", 0) is None else {})}
