"""Patients and images that are on both sides of a split."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

__all__ = ["find_leaks", "warn_of_leaks"]

logger = logging.getLogger(__name__)

_SHOWN = 3


def find_leaks(trained: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]]) -> list[str]:
    """Leaks between training and held-out slices, which make metrics better than on new patients.

    Args:
        trained: entries of a data list that a network is trained on, with absolute paths.
        held_out: entries that it is not trained on.

    Returns:
        Up to two sentences: on patients (or groups of patients) with slices on both sides, and on images that are on
        both sides, as the same file or as files with the same content.

    Example:
        >>> of = {"image": "", "patient": "7"}
        >>> find_leaks([{**of, "group": "7"}], [{**of, "group": "7"}, {**of, "patient": "8", "group": "8"}])
        ['1 of the 2 slices held out are of 1 patient or group (7) with other slices in the training part.']
    """
    found = []
    # As text: a data list may have 7 where another one, or the name of a file, has "7".
    known = {(key, str(entry[key])) for entry in trained for key in ("group", "patient") if _is_named(entry, key)}
    shared = [
        entry
        for entry in held_out
        if any((key, str(entry[key])) in known for key in ("group", "patient") if _is_named(entry, key))
    ]
    if shared:
        groups = list(dict.fromkeys(str(entry.get("group") or entry["patient"]) for entry in shared))
        count = "1 patient or group" if len(groups) == 1 else f"{len(groups)} patients or groups"
        found.append(
            f"{len(shared)} of the {len(held_out)} slices held out are of {count} ({_some(groups)}) with other slices "
            "in the training part."
        )
    if pairs := _same_images(trained, held_out):
        names = [one if one == other else f"{one} is {other}" for one, other in pairs]
        found.append(
            f"{len(pairs)} of the {len(held_out)} slices held out have images that are in the training part too "
            f"({_some(names)})."
        )
    return found


def warn_of_leaks(trained: Sequence[Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]], key: str = "") -> None:
    """Log what `find_leaks` finds as warnings, which begin with the ``key`` of the config that names the slices."""
    for leak in find_leaks(trained, held_out):
        logger.warning("%s%s Because of this leak, metrics on them are better than on new patients.", key, leak)


def _is_named(entry: Mapping[str, Any], key: str) -> bool:
    return entry.get(key) not in (None, "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _same_images(trained: Iterable[Mapping[str, Any]], held_out: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Names of held-out images, each with the name of a training image of the same content."""
    sides = [_by_size(entries) for entries in (held_out, trained)]
    pairs = []
    # Only files of the same size can be equal, so that few compressed files have to be read.
    for size in sides[0].keys() & sides[1].keys():
        of_content = {_digest(path): path for path in dict.fromkeys(sides[1][size])}
        pairs += [(path, of_content[digest]) for path in sides[0][size] if (digest := _digest(path)) in of_content]
    return sorted((one.name, other.name) for one, other in pairs)


def _by_size(entries: Iterable[Mapping[str, Any]]) -> dict[int, list[Path]]:
    files = defaultdict(list)
    for entry in entries:
        # An image with a file for each channel is compared by the first file.
        path = Path(ensure_tuple(entry["image"])[0])
        if path.is_file():
            files[path.stat().st_size].append(path)
    return files


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
