"""The network that ``monai.bundle.load`` returns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from ..config import build_network
from ..io.checkpoints import load_weights
from .trained import trained_settings

__all__ = ["loaded_network"]

NETWORK = "network_def"


def loaded_network(checkpoint: Path, bundle_root: str | Path, overrides: Mapping[str, Any]) -> nn.Module:
    """The network that a checkpoint was trained with, with its weights.

    MONAI builds the network of ``train.json`` as it is for a new training, whose widths may be others, and skips the
    weights that do not fit. Here the network is that of ``settings.json``, and weights that do not fit are an error.

    Args:
        checkpoint: the file that ``monai.bundle.load`` loads.
        bundle_root: the bundle.
        overrides: id to value of the config; those of ``network_def`` replace arguments of the network. They are taken
            as they are, never parsed.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the settings can't be read, or the weights do not fit the network.
    """
    definition = ConfigParser({NETWORK: trained_settings(checkpoint, bundle_root)[NETWORK]})
    for name, value in overrides.items():
        if name.startswith((f"{NETWORK}#", f"{NETWORK}::")):
            definition[name] = value
    return load_weights(build_network(definition[NETWORK], trusted=False), checkpoint)
