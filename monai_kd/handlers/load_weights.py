"""Strict loading of weights at the start of a run."""

from __future__ import annotations

import logging
from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from ..io.checkpoints import load_weights
from ..io.network_name import network_name

__all__ = ["LoadWeights"]

logger = logging.getLogger(__name__)


class LoadWeights:
    """Load a checkpoint into a network when an engine starts, and log which it is.

    A config can be inspected without the checkpoint.

    MONAI's ``CheckpointLoader`` can skip weights that do not fit; here they are an error.

    Args:
        network: the network that gets the weights.
        checkpoint: file with a state dict.

    Raises:
        FileNotFoundError: when the engine starts: there is no such file.
        ValueError: when the engine starts: the checkpoint does not fit the network.
    """

    def __init__(self, network: nn.Module, checkpoint: str | Path) -> None:
        self.network, self.checkpoint = network, Path(checkpoint)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self, _engine: Engine) -> None:
        load_weights(self.network, self.checkpoint)
        logger.info("network: %s", network_name(self.checkpoint))
