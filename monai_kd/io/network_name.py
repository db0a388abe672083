"""Which network a checkpoint is, in one line for logs."""

from __future__ import annotations

import json
from pathlib import Path

from .checksum import file_sha256
from .trained import read_trained

__all__ = ["network_name"]


def network_name(checkpoint: str | Path) -> str:
    """One line that says which network a checkpoint is: name, version where it has one, path, and SHA-256.

    The weights that a bundle was released with are those whose SHA-256 is ``weights_sha256`` in its ``metadata.json``;
    they have its name and version. Others, also in ``models/``, are of some training, and have the class of their
    network.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the ``settings.json`` beside it can't be read, or belongs to other weights.
    """
    path = Path(checkpoint).expanduser()
    settings = read_trained(path) or {}
    sha256 = file_sha256(path)
    bundle = path.resolve().parents[1]
    try:
        metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        metadata = {}
    if isinstance(metadata, dict) and metadata.get("weights_sha256") == sha256:
        name = f"{bundle.name} {metadata.get('version')}, as released"
    else:
        definition = settings.get("network_def")
        target = definition.get("_target_") if isinstance(definition, dict) else None
        name = f"{str(target).rpartition('.')[2]} of a training" if target else "a network of a training"
    return f"{name} ({path}, SHA-256 {sha256[:12]} …)"
