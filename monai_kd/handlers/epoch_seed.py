"""Randomness that depends on the seed and the epoch alone."""

from __future__ import annotations

import random

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from torch.utils.data import DataLoader

__all__ = ["EpochSeed"]

_LARGEST_SEED = 2**32 - 1


class EpochSeed:
    """Seed everything random anew when an epoch starts, from the seed and the number of the epoch.

    An epoch then draws the same batches, flips and dropout masks whether the run was interrupted before it or not:
    that is what makes resuming exact, with any number of loader workers.

    Args:
        seed: of the run, not negative.
        loader: the training loader; its ``generator`` orders the batches and seeds the workers.
        rank: process number under DDP; processes draw different augmentation.

    Raises:
        ValueError: ``loader`` has no generator of its own, or keeps its workers from one epoch to the next: its order,
            or its augmentation, would depend on what ran before.
    """

    def __init__(self, seed: int, loader: DataLoader, rank: int = 0) -> None:
        if loader.generator is None:
            raise ValueError("EpochSeed needs a loader with a generator: DataLoader(..., generator=torch.Generator()).")
        if loader.persistent_workers:
            raise ValueError("EpochSeed can't seed workers that are running already: set persistent_workers to false.")
        self.seed, self.loader, self.rank = int(seed), loader, int(rank)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        # SeedSequence mixes the numbers well, so that neighbouring seeds and epochs do not overlap.
        words = np.random.SeedSequence([self.seed, engine.state.epoch, self.rank]).generate_state(2)
        seed = int(words[0]) % _LARGEST_SEED
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        set_rnd(self.loader.dataset, seed)
        self.loader.generator.manual_seed(int(words[1]))
        # The iterator of the epoch before draws from the generator once more when it is asked past its end, which an
        # interrupted run never does: begin with a new one.
        engine.set_data(self.loader)
