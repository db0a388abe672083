"""The weights of a bundle itself, ``models/model.pt``, for programs that got no checkpoint."""

from __future__ import annotations

from pathlib import Path

__all__ = ["checkpoint_or_own"]


def checkpoint_or_own(checkpoint: str | Path | None, bundle: str | Path, option: str) -> Path:
    """The given checkpoint, or else the bundle's own ``models/model.pt``.

    Args:
        checkpoint: as given, or ``None``.
        bundle: folder of the bundle.
        option: how a checkpoint is given, for the message, such as ``"--segmentation CHECKPOINT"``.

    Raises:
        FileNotFoundError: none was given, and the bundle has none.
    """
    if checkpoint is not None:
        return Path(checkpoint).expanduser()
    own = Path(bundle) / "models" / "model.pt"
    if not own.is_file():
        raise FileNotFoundError(f"there is no {own}, so the network must be given: {option}.")
    return own
