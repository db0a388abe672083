"""What a reader must know about the weights behind a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import read_datalist
from ..io.checksum import file_sha256
from . import training_settings

__all__ = ["CheckpointFacts", "describe_checkpoint"]

DIGITS = 12


@dataclass(frozen=True)
class CheckpointFacts:
    """Of one checkpoint file.

    Attributes:
        file: its name, without its folder.
        sha256: the first 12 digits.
        synthetic: it was trained on phantoms; ``None`` when there are no settings beside it to tell.
    """

    file: str
    sha256: str
    synthetic: bool | None


def describe_checkpoint(path: str | Path) -> CheckpointFacts:
    """Name, hash and kind of training data of a checkpoint.

    Raises:
        ValueError: the ``settings.json`` beside it can't be read.
    """
    path = Path(path).expanduser()
    settings = training_settings(path)
    return CheckpointFacts(path.name, file_sha256(path)[:DIGITS], None if settings is None else _synthetic(settings))


def _synthetic(settings: dict[str, Any]) -> bool:
    if settings.get("preset") == "demo":
        return True
    try:
        return bool(read_datalist(settings["dataset_dir"], allow_outside=True).get("synthetic"))
    except (OSError, ValueError, KeyError, TypeError):
        # Trained elsewhere, or the folder is gone: nothing says that it was synthetic.
        return False
