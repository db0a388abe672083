"""Random numbers that depend only on the seed and the epoch."""

from __future__ import annotations

import random

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from torch.utils.data import DataLoader

from ..data import CheckedDataset

__all__ = ["EpochSeed"]

_LARGEST_SEED = 2**32 - 1


class EpochSeed:
    """Seed all random number generators at the start of each epoch, from the seed and the number of the epoch.

    An epoch then has the same batches, flips and dropout masks whether or not the run was interrupted before it, with
    any number of loader workers. So a resumed run gives exactly the same results. A `CheckedDataset` with ``views`` has
    the view of the epoch, which all processes share.

    Args:
        seed: seed of the run, not negative.
        loader: the training loader; its ``generator`` orders the batches and seeds the workers.
        rank: rank of this process with DDP; each process has its own augmentation.

    Raises:
        ValueError: ``loader`` has no generator of its own, or has persistent workers: the order of the batches, or the
            augmentation, would depend on earlier epochs.
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
        # SeedSequence mixes the numbers, so that adjacent seeds and epochs have independent streams.
        words = np.random.SeedSequence([self.seed, engine.state.epoch, self.rank]).generate_state(2)
        seed = int(words[0]) % _LARGEST_SEED
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        set_rnd(self.loader.dataset, seed)
        dataset = self.loader.dataset
        if isinstance(dataset, CheckedDataset) and dataset.views is not None:
            dataset.views.begin(self.seed, engine.state.epoch)
        self.loader.generator.manual_seed(int(words[1]))
        # At its end, the iterator of the previous epoch draws from the generator once more, which it does not in an
        # interrupted run: begin with a new iterator.
        engine.set_data(self.loader)
