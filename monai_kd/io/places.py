"""Folders and files that settings name, relative to the file that names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

__all__ = ["PLACES", "absolute_places", "relative_places"]

# Settings that name a place, also those of the teacher and of the weights before, within the settings.
PLACES = ("dataset_dir", "negatives_dir", "init_checkpoint", "teacher_store", "checkpoint")
_WITHIN = ("teacher", "previous")
# A place of the installation, of which the name is kept.
_INSTALLED = "bundle_root"


def relative_places(settings: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """Settings as they are stored in a file of a folder: with paths relative to it.

    So a run that is moved, or copied to another computer, together with its data finds them. A place that shares no
    folder with it but the root becomes ``None``: its path would only describe this computer. Of the
    bundle, the name is kept.

    Args:
        settings: JSON values, with absolute paths.
        folder: of the file.

    Example:
        >>> relative_places({"dataset_dir": "/home/a/data", "teacher_store": "/mnt/store", "fold": 0}, "/home/a/runs/1")
        {'dataset_dir': '../../data', 'teacher_store': None, 'fold': 0}
    """
    base = Path(folder).expanduser().resolve()

    def relative(path: str) -> str | None:
        try:
            place = Path(path).expanduser().resolve()
            shared = os.path.commonpath([place, base])
        except (ValueError, RuntimeError):  # another drive; no such user
            return None
        return None if shared == Path(shared).anchor else PurePath(os.path.relpath(place, base)).as_posix()

    found = _changed(settings, relative)
    if isinstance(found.get(_INSTALLED), str):
        found = {"bundle": Path(found.pop(_INSTALLED)).name, **found}
    return found


def absolute_places(settings: Mapping[str, Any], folder: str | Path) -> dict[str, Any]:
    """Settings of a file with absolute paths; those of earlier versions are absolute already.

    Example:
        >>> absolute_places({"dataset_dir": "../../data"}, "/home/a/runs/1")
        {'dataset_dir': '/home/a/data'}
    """
    base = Path(folder).expanduser().resolve()
    return _changed(settings, lambda path: os.path.normpath(base / path))


def _changed(settings: Mapping[str, Any], change: Callable[[str], str | None]) -> dict[str, Any]:
    found = dict(settings)
    for name, value in settings.items():
        if name in _WITHIN and isinstance(value, Mapping):
            found[name] = _changed(value, change)
        elif name in PLACES and isinstance(value, str):
            found[name] = change(value)
    return found
