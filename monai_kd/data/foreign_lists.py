"""Data lists of the Medical Segmentation Decathlon and of Auto3DSeg, taken as they are."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

__all__ = ["UNCLASSED", "completed", "datalist_path"]

logger = logging.getLogger(__name__)

FOLDS, SEED = 5, 0
UNCLASSED = "unclassed"  # key of a data list whose images have no class
BACKGROUND = "0"  # among the labels of other lists


def datalist_path(folder: str | Path) -> Path:
    """The data list of a folder: ``datalist.json``, or else ``dataset.json``, the name of the Decathlon's."""
    folder = Path(folder).expanduser()
    other = folder / "dataset.json"
    return other if other.is_file() and not (folder / "datalist.json").is_file() else folder / "datalist.json"


def completed(datalist: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A data list with what lists of the Decathlon and of Auto3DSeg do not have.

    They name an ``image`` and a ``label``; Auto3DSeg's also a ``fold``. An entry without ``patient`` is of a patient of
    its own, named after its image. Entries without ``fold`` are put into 5 folds at random, always the same, which is
    logged as a warning. Images without ``class`` can't be classified, see `UNCLASSED`. The background is left out of
    ``labels``. Entries that are not as such lists have them are left for the checks of `read_datalist`.

    Args:
        datalist: with a list ``training``.
        path: of the list, for the warning.
    """
    entries = datalist["training"]
    whole = all(isinstance(entry, Mapping) and _first(entry.get("image")) for entry in entries)
    if not whole or all(key in entry for entry in entries for key in ("class", "patient", "group", "fold", "source")):
        return dict(datalist)
    added = dict(datalist)
    given = [entry.get("fold") for entry in entries]
    if all(fold is None for fold in given):
        folds = np.random.default_rng(SEED).permutation(len(entries)) % FOLDS
        given = [int(fold) for fold in folds]
        logger.warning("%s has no folds: its %d images are put into %d at random.", path, len(entries), FOLDS)
    if not any("class" in entry for entry in entries):
        added[UNCLASSED] = True
        entries = [{"class": 0, **entry} for entry in entries]
        labels = datalist.get("labels")
        if isinstance(labels, Mapping) and BACKGROUND in labels:
            added["labels"] = {number: name for number, name in labels.items() if number != BACKGROUND}
    added["training"] = []
    for entry, fold in zip(entries, given, strict=True):
        image = _first(entry["image"])
        patient = entry.get("patient", PurePosixPath(image).name.partition(".")[0])
        own = {"patient": patient, "group": patient, "source": image, **({} if fold is None else {"fold": fold})}
        added["training"].append({**own, **entry})
    return added


def _first(image: Any) -> str:
    """The file of an image, or that of its first channel; empty where it names none."""
    first = image[0] if isinstance(image, list) and image else image
    return first if isinstance(first, str) else ""
