"""Which network a checkpoint is, in one line for logs."""

from __future__ import annotations

import json
from pathlib import Path

from .checksum import file_sha256
from .trained import read_trained

__all__ = ["network_name", "released_name", "released_version"]


def network_name(checkpoint: str | Path) -> str:
    """One line that says which network a checkpoint is: name, version where it has one, path, and SHA-256.

    It also says so when the network was trained on synthetic phantoms.

    The weights that a bundle was released with are those whose SHA-256 is ``weights_sha256`` in its ``metadata.json``;
    they have its name and version. Others, also in ``models/``, are of some training, and have the class of their
    network.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the ``settings.json`` beside it can't be read, or belongs to other weights.
    """
    path = Path(checkpoint).expanduser()
    settings, sha256 = read_trained(path) or {}, file_sha256(path)
    if (released := released_name(path)) is not None:
        name = f"{released}, as released"
    else:
        definition = settings.get("network_def")
        target = definition.get("_target_") if isinstance(definition, dict) else None
        name = f"{str(target).rpartition('.')[2]} of a training" if target else "a network of a training"
    phantoms = ", trained on SYNTHETIC phantoms" if settings.get("synthetic") is True else ""
    return f"{name}{phantoms} ({path}, SHA-256 {sha256[:12]} …)"


def released_name(checkpoint: str | Path) -> str | None:
    """Name and version of the bundle of which a checkpoint is `released_version`, such as seg_student 0.2.0.

    Raises:
        FileNotFoundError: there is no such checkpoint.
    """
    version = released_version(checkpoint)
    return None if version is None else f"{Path(checkpoint).expanduser().resolve().parents[1].name} {version}"


def released_version(checkpoint: str | Path) -> str | None:
    """The version of the bundle if a checkpoint in its ``models/`` is the one that it was released with, else ``None``.

    Raises:
        FileNotFoundError: there is no such checkpoint.
    """
    path = Path(checkpoint).expanduser()
    sha256, file = file_sha256(path), path.resolve().parents[1] / "configs" / "metadata.json"
    try:
        metadata = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    released = isinstance(metadata, dict) and metadata.get("weights_sha256") == sha256
    return str(metadata.get("version")) if released else None
