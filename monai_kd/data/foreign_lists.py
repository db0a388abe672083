"""Data lists of the Medical Segmentation Decathlon and of Auto3DSeg, and of images and classes, taken as they are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..io.kinds import stem_of
from .negatives import is_negative
from .unlabelled import is_labelled

__all__ = ["UNCLASSED", "completed", "datalist_path"]

logger = logging.getLogger(__name__)

FOLDS, SEED = 5, 0
UNCLASSED = "unclassed"  # key of a data list whose images have no class
BACKGROUND = "0"  # among the labels of other lists
OWN = ("patient", "group", "source")  # what entries of the lists of this project have


def datalist_path(folder: str | Path) -> Path:
    """The data list of a folder: ``datalist.json``, or else ``dataset.json``, the name of the Decathlon's."""
    folder = Path(folder).expanduser()
    other = folder / "dataset.json"
    return other if other.is_file() and not (folder / "datalist.json").is_file() else folder / "datalist.json"


# A run reads its list several times.
@cache
def _warn_of_random_folds(path: Path, images: int) -> None:
    logger.warning(
        "%s has no folds: its %d images are put into %d at random, each as of a patient of its own.",
        *(path, images, FOLDS),
    )


def completed(datalist: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A data list with what lists of the Decathlon and of Auto3DSeg do not have.

    Their entries have an ``image`` and a ``label``, Auto3DSeg's also a ``fold``, those of lists for classification a
    ``class``, and none of ``patient``, ``group`` and ``source``: lists in which an entry has one of these, or only some
    have a class, are returned as they are. Each image is of a
    patient of its own, named after it, and after its folders where names are shared. Images without ``fold`` are put
    into 5 folds at random, always the same, which is logged as a warning. Images without a class can't be classified,
    see `UNCLASSED`. The background is left out of ``labels``. Images marked as without a label get no fold.

    Args:
        datalist: with a list ``training``.
        path: of the list, for the warning.
    """
    entries = datalist["training"]
    if not all(isinstance(entry, Mapping) and _first(entry.get("image")) for entry in entries):
        return dict(datalist)
    if any(key in entry for entry in filter(is_labelled, entries) for key in OWN):
        return dict(datalist)
    classed = ["class" in entry for entry in entries if is_labelled(entry) and not is_negative(entry)]
    if any(classed) and not all(classed):
        return dict(datalist)
    added = {**datalist, **({} if any(classed) else {UNCLASSED: True})}
    labelled = [number for number, entry in enumerate(entries) if is_labelled(entry)]
    given = [entry.get("fold") for entry in entries]
    if all(given[number] is None for number in labelled):
        drawn = (np.random.default_rng(SEED).permutation(len(labelled)) % FOLDS).tolist()
        for number, fold in zip(labelled, drawn, strict=True):
            given[number] = fold
        _warn_of_random_folds(path, len(labelled))
    labels = datalist.get("labels")
    if isinstance(labels, Mapping) and BACKGROUND in labels and UNCLASSED in added:
        added["labels"] = {number: name for number, name in labels.items() if number != BACKGROUND}
    added["training"] = []
    images = {_first(entry["image"]) for entry in entries}
    names = {image: stem_of(PurePosixPath(image).name) for image in images}
    shared = Counter(names.values())
    for entry, fold in zip(entries, given, strict=True):
        image = _first(entry["image"])
        patient = names[image] if shared[names[image]] == 1 else stem_of(image)
        own = {**({"class": 0} if UNCLASSED in added else {}), "patient": patient, "group": patient, "source": image}
        added["training"].append({**own, **entry, **({} if fold is None else {"fold": fold})})
    return added


def _first(image: Any) -> str:
    """The file of an image, or that of its first channel; empty where it names none."""
    first = image[0] if isinstance(image, list) and image else image
    return first if isinstance(first, str) else ""
