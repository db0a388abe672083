"""Epochs whose randomness depends on nothing that ran before."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandFlipd, RandGaussianNoised

from monai_kd.handlers import EpochSeed


def loader(workers: int = 0, **kwargs) -> DataLoader:
    items = [{"image": torch.full((1, 4, 4), float(n)) + torch.arange(4)} for n in range(6)]
    transform = Compose([RandFlipd("image", prob=0.5, spatial_axis=1), RandGaussianNoised("image", prob=0.5)])
    options = {"batch_size": 2, "shuffle": True, "generator": torch.Generator()} | kwargs
    return DataLoader(Dataset(items, transform), num_workers=workers, **options)


def run(
    epochs: range, seed: int = 1, workers: int = 0, rank: int = 0, disturb: bool = False
) -> dict[int, torch.Tensor]:
    """Epoch to its images and to what the process drew at random, of a run that goes from one epoch to another."""
    data, drawn = loader(workers), {}

    def step(engine: Engine, batch: dict) -> None:
        own = [random.random(), np.random.rand(), float(torch.rand(()))]
        drawn.setdefault(engine.state.epoch, []).append(torch.cat([batch["image"].flatten(), torch.tensor(own)]))

    def disturbance(_engine: Engine) -> None:
        random.random()
        np.random.rand(3)
        torch.rand(5)
        next(iter(data))  # draws from the loader's generator and its transforms

    engine = Engine(step)
    engine.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", epochs.start - 1))
    EpochSeed(seed, data, rank).attach(engine)
    if disturb:
        engine.add_event_handler(Events.EPOCH_COMPLETED, disturbance)
        disturbance(engine)
    engine.run(data, max_epochs=epochs.stop - 1)
    return {epoch: torch.cat(parts) for epoch, parts in drawn.items()}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_is_the_same_whatever_ran_before(workers):
    straight = run(range(1, 4), workers=workers)
    assert set(straight) == {1, 2, 3}
    torch.manual_seed(123)
    late = run(range(3, 4), workers=workers)
    assert torch.equal(late[3], straight[3])
    disturbed = run(range(1, 4), workers=workers, disturb=True)
    assert all(torch.equal(disturbed[epoch], straight[epoch]) for epoch in straight)


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_differ(workers):
    found = run(range(1, 4), workers=workers)
    assert not any(torch.equal(found[a], found[b]) for a, b in [(1, 2), (1, 3), (2, 3)])


@pytest.mark.parametrize("other", [{"seed": 2}, {"rank": 1}])
def test_seeds_and_ranks_differ(other):
    found, others = run(range(1, 3)), run(range(1, 3), **other)
    assert not any(torch.equal(found[a], others[b]) for a in found for b in others)


def test_everything_is_shown_once_an_epoch():
    data, seen = loader(), []
    data.dataset.transform = Compose([])
    engine = Engine(lambda _e, batch: seen.extend(batch["image"][:, 0, 0, 0].tolist()))
    EpochSeed(1, data).attach(engine)
    engine.run(data, max_epochs=2)
    assert sorted(seen[:6]) == sorted(seen[6:]) == [0, 1, 2, 3, 4, 5]
    assert seen[:6] != seen[6:]


def test_loader_without_a_generator():
    with pytest.raises(ValueError, match=r"needs a loader with a generator: DataLoader\(\.\.\., generator=torch"):
        EpochSeed(1, loader(generator=None))


def test_workers_that_outlive_the_epoch():
    # Their random state would go on from the epoch before.
    with pytest.raises(ValueError, match="persistent_workers"):
        EpochSeed(1, loader(workers=2, persistent_workers=True))
