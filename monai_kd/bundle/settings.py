"""The few values without which a checkpoint can't be used, kept beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["checkpoint_of", "saved_settings", "training_settings"]

logger = logging.getLogger(__name__)


def _beside(checkpoint: str | Path) -> Path:
    return Path(checkpoint).expanduser().parent / "settings.json"


def checkpoint_of(folder: str | Path) -> str | None:
    """The path of the ``model.pt`` of a run's folder, or ``None`` when there is none."""
    path = Path(folder) / "model.pt"
    return str(path) if path.is_file() else None


def saved_settings(checkpoint: str | Path | None, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``defaults`` as the checkpoint was trained with, so that they need not be repeated by hand.

    Widths that don't fit make a checkpoint fail to load; a wrong image size would only make it worse, silently. Both
    are taken from the ``settings.json`` beside it.

    Args:
        checkpoint: the weights; ``None`` or a file that is not there (yet) leaves the defaults.
        defaults: name to the value to use when nothing was saved, said aloud.

    Raises:
        ValueError: ``settings.json`` can't be read.
    """
    if checkpoint is None or not Path(checkpoint).expanduser().is_file():
        return dict(defaults)
    saved = training_settings(checkpoint)
    if saved is None:
        logger.warning(
            "%s has no settings.json beside it: assuming it was trained with %s.", checkpoint, dict(defaults)
        )
        return dict(defaults)
    return {name: saved.get(name, value) for name, value in defaults.items()}


def training_settings(checkpoint: str | Path) -> dict[str, Any] | None:
    """All values that a checkpoint was trained with, or ``None`` when there is no ``settings.json`` beside it.

    Raises:
        ValueError: ``settings.json`` can't be read.
    """
    path = _beside(checkpoint)
    if not path.is_file():
        return None
    way_out = "restore it, or delete it and give the values by hand."
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); {way_out}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is JSON, but not an object with names and values; {way_out}")
    return settings
