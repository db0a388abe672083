"""What every exported folder holds beside its network, whatever that is of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..bundle.card import card_of, data_license_of
from ..bundle.checkpoint import describe_checkpoint
from ..bundle.metadata import read_metadata
from ..io.checksum import file_sha256

__all__ = ["TOLERANCE", "checked_difference", "origin_of", "write_contents"]

TOLERANCE = 1e-3  # between two probabilities


def origin_of(bundle: Path, checkpoint: str | Path) -> dict[str, Any]:
    """The part of ``settings.json`` that says where the network comes from, and what it is for."""
    facts, metadata = describe_checkpoint(checkpoint), read_metadata(bundle)
    return {
        "bundle": {"name": bundle.name, "version": metadata["version"]},
        "checkpoint": {"file": facts.file, "sha256": facts.sha256, "trained_on_synthetic_slices": facts.synthetic},
        "intended_use": metadata["intended_use"],
    }


def write_contents(
    folder: Path,
    bundle: Path,
    checkpoint: str | Path,
    trained: Mapping[str, Any],
    settings: Mapping[str, Any],
    scripts: Mapping[str, str],
) -> None:
    """Write ``settings.json``, scripts, ``requirements.txt``, model card and licences into the folder of a package.

    Args:
        bundle, checkpoint: whose network it is.
        trained: the settings of the weights, see `trained_settings`.
        settings: what the scripts read.
        scripts: files of this folder of the program, and their names in the package.
    """
    (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    runtime = "openvino" if settings["precision"] == "int8" else "onnxruntime"
    (folder / "requirements.txt").write_text(f"numpy\n{runtime}\n", encoding="utf-8")
    metadata, sha256 = read_metadata(bundle), file_sha256(Path(checkpoint).expanduser())
    (folder / "MODEL_CARD.md").write_text(card_of(bundle, metadata, trained, sha256, {}), encoding="utf-8")
    (folder / "data_license.txt").write_text(data_license_of(bundle, metadata, sha256), encoding="utf-8")
    shutil.copyfile(bundle / "LICENSE", folder / "LICENSE")
    for script, name in scripts.items():
        shutil.copyfile(Path(__file__).with_name(script), folder / name)


def checked_difference(difference: float) -> float:
    """The largest difference between probabilities of bundle and package.

    Raises:
        ValueError: it is larger than `TOLERANCE`.
    """
    if not difference <= TOLERANCE:
        raise ValueError(
            f"the probabilities of the exported network differ by {difference:.2g} from those of the bundle, more "
            f"than {TOLERANCE:g}: nothing was written."
        )
    return difference
