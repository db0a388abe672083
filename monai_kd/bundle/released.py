"""The weights of a run or of a bundle itself, ``model.pt``, for programs that got no checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path

from ..io.network_name import released_version
from .folder import CHECKOUT

__all__ = ["checkpoint_of", "checkpoint_or_own", "training_folder"]

logger = logging.getLogger(__name__)


def checkpoint_of(folder: str | Path) -> str | None:
    """The path of ``model.pt`` in the folder of a run, or ``None`` when there is none."""
    path = Path(folder) / "model.pt"
    return str(path) if path.is_file() else None


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


def training_folder(bundle_root: str | Path) -> str:
    """Where a training writes that got no ``output_dir``: ``models/`` of the bundle.

    In a checkout whose ``models/`` holds weights that the repository carries, it is ``runs/`` instead, with a warning:
    the first trial on phantoms would otherwise replace what `checkpoint_or_own` finds. Copies of a bundle, as in the
    MONAI Label app or of a client in federated learning, are trained in place.
    """
    root = Path(bundle_root).resolve()
    weights = root / "models" / "model.pt"
    if root.parent != CHECKOUT or not weights.is_file() or released_version(weights) is None:
        return f"{bundle_root}/models"
    logger.warning(
        "no output_dir was given, and %s is what the repository carries: this run is written to %s; give "
        "--checkpoint %s to use it.",
        *(weights, root / "runs", root / "runs" / "model.pt"),
    )
    return f"{bundle_root}/runs"
