"""The checkpoint of a run's folder, and the settings beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..io.trained import read_trained

__all__ = ["checkpoint_of", "training_settings"]


def checkpoint_of(folder: str | Path) -> str | None:
    """The path of ``model.pt`` in the folder of a run, or ``None`` when there is none."""
    path = Path(folder) / "model.pt"
    return str(path) if path.is_file() else None


def training_settings(checkpoint: str | Path) -> dict[str, Any] | None:
    """The settings that a checkpoint was trained with, or ``None`` when there is no ``settings.json`` beside it.

    ``weights_sha256`` among them is the SHA-256 of the checkpoint. Settings of earlier versions lack it; they are used,
    and a warning is logged.

    Raises:
        ValueError: ``settings.json`` can't be read, or belongs to other weights.
    """
    return read_trained(checkpoint)
