"""The few values without which a checkpoint can't be used, kept beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..io.trained import read_trained

__all__ = ["checkpoint_of", "training_settings"]

def checkpoint_of(folder: str | Path) -> str | None:
    """The path of the ``model.pt`` of a run's folder, or ``None`` when there is none."""
    path = Path(folder) / "model.pt"
    return str(path) if path.is_file() else None


def training_settings(checkpoint: str | Path) -> dict[str, Any] | None:
    """All values that a checkpoint was trained with, or ``None`` when there is no ``settings.json`` beside it.

    ``weights_sha256`` among them is the SHA-256 of the checkpoint; settings that an earlier version wrote lack it, and
    are taken with a warning.

    Raises:
        ValueError: ``settings.json`` can't be read, or belongs to other weights.
    """
    return read_trained(checkpoint)
