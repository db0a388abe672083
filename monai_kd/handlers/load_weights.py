"""Weights for a run: strictly, or not at all."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from ..io.checkpoints import load_weights

__all__ = ["LoadWeights"]


class LoadWeights:
    """Load a checkpoint into a network when an engine starts, so that a config can be looked at without one.

    MONAI's ``CheckpointLoader`` may leave out what does not fit; this refuses it.

    Args:
        network: gets the weights.
        checkpoint: a bare state dict.

    Raises:
        FileNotFoundError: at the start of the run, when there is no such file.
        ValueError: then, when the checkpoint is not one of this network.
    """

    def __init__(self, network: nn.Module, checkpoint: str | Path) -> None:
        self.network, self.checkpoint = network, Path(checkpoint)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._load)

    def _load(self, _engine: Engine) -> None:
        load_weights(self.network, self.checkpoint)
