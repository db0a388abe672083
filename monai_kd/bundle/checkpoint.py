"""Facts about a checkpoint that are shown with its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import read_datalist
from ..io.checksum import file_sha256
from ..io.network_name import released_name
from ..io.trained import read_trained

__all__ = ["CheckpointFacts", "describe_checkpoint", "is_synthetic"]

DIGITS = 12


@dataclass(frozen=True)
class CheckpointFacts:
    """Facts about one checkpoint file.

    Attributes:
        file: name of the file, without its folder.
        released: name and version of the bundle whose released weights it is; empty for other weights.
        sha256: the first 12 hexadecimal digits of its SHA-256.
        synthetic: whether it was trained on phantoms; ``None`` when there is no ``settings.json`` beside it.
    """

    file: str
    sha256: str
    synthetic: bool | None
    released: str = ""


def describe_checkpoint(path: str | Path) -> CheckpointFacts:
    """Name, hash and kind of training data of a checkpoint, and whether it is one that a bundle was released with.

    Raises:
        ValueError: the ``settings.json`` beside it can't be read.
    """
    path = Path(path).expanduser()
    settings = read_trained(path)
    synthetic = None if settings is None else is_synthetic(settings)
    return CheckpointFacts(path.name, file_sha256(path)[:DIGITS], synthetic, released_name(path) or "")


def is_synthetic(settings: Mapping[str, Any]) -> bool:
    """Whether a network was trained on phantoms, by its ``settings.json``."""
    # Of an archive, the data list is elsewhere.
    if isinstance(recorded := settings.get("synthetic"), bool):
        return recorded
    if settings.get("preset") == "demo":
        # Not recorded by earlier versions.
        return True
    try:
        return bool(read_datalist(settings["dataset_dir"], allow_outside=True).get("synthetic"))
    except (OSError, ValueError, KeyError, TypeError):
        # Trained elsewhere, or the folder is gone: then there is no sign of synthetic data.
        return False
