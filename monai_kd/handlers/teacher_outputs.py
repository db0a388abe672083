"""The outputs of a teacher, computed before the first epoch."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.transforms import Compose, RandFlipd
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data import CheckedDataset
from ..data.checked import runs_each_time
from ..data.views import Views
from ..distillation import Distiller, TeacherStore
from ..engines import autocast
from ..io.first_process import is_distributed
from ..io.plain import plain_tensor

__all__ = ["FillTeacherStore"]

logger = logging.getLogger(__name__)

_SECONDS = 60.0
# Batches, in random order, that are looked up before a store with enough outputs is taken to be that of this run, and
# not of another fold or seed.
_SAMPLE = 4

Pass = AbstractContextManager[None]


class FillTeacherStore:
    """Fill the `TeacherStore` of a training before its first epoch, with a bar of progress.

    Of a data set with ``views``, the teacher is asked for each view that the epochs to come will have. Where flips are
    the only random transforms, it is asked for each item in all orientations, unless a single epoch is left, which
    would not see them all. Of other data sets it is not known which images will come, and the epochs fill the store.

    An interrupted run goes on where it was. New outputs are written, and those of others found, once a minute. So
    several processes fill a store together: those of a distributed training, each of which takes its share, and also
    several runs that were started by themselves, since each goes through the images in another order.

    Nothing is done where the trainer's network is no `Distiller` with a store. Of a store that has as many outputs as
    the run needs, a few batches are looked up, and if all are there it is taken to be full. What is missing from it all
    the same, the epochs add.

    Args:
        loader: the training loader, whose ``generator`` is seeded anew in each epoch, see `EpochSeed`.
        seed: seed of the run, by which the views are known.

    Raises:
        ValueError: while filling: as `TeacherStore.answer`.
        OSError: while filling: the disk is full, or the folder can't be written to.
    """

    def __init__(self, loader: DataLoader, seed: int = 0) -> None:
        self.loader, self.seed = loader, int(seed)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Any) -> None:
        distiller = engine.network
        if not isinstance(distiller, Distiller) or distiller.store is None:
            return
        passes = self._passes(engine.state.epoch, engine.state.max_epochs)
        if not passes:
            logger.info("teacher_store: not filled beforehand, but by each image that comes for the first time.")
            return
        begun = time.monotonic()
        with tqdm(total=len(passes) * len(self.loader), desc="teacher_store", unit="batch", disable=None) as bar:
            self._fill(engine, distiller, distiller.store, passes, bar)
        distiller.store.flush()
        if is_distributed():
            # Then each finds what the others have computed.
            dist.barrier()
            distiller.store.refresh()
        logger.info("teacher_store: filled before the first epoch, %.0f s.", time.monotonic() - begun)

    def _fill(self, engine: Any, distiller: Distiller, store: TeacherStore, passes: list[Pass], bar: tqdm) -> None:
        """Ask the teachers for all batches of all passes, unless the store turns out to be full."""
        written, asked = time.monotonic(), 0
        for images in passes:
            with images:
                # In another order in each run, so that those that share the store do not compute the same images.
                self.loader.generator.manual_seed(int.from_bytes(os.urandom(4), "big"))
                for batch in self.loader:
                    image = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)[0]
                    with autocast(engine.state.device, engine.autocast):
                        distiller.teach(plain_tensor(image))
                    bar.update()
                    asked += 1
                    if asked == _SAMPLE and store.complete and store.computed == 0:
                        return
                    if time.monotonic() - written > _SECONDS:
                        store.flush()
                        written = time.monotonic()

    def _passes(self, done: int, epochs: int) -> list[Pass]:
        """Within each of them, the data set gives every item once; together, all images of the epochs to come."""
        dataset = self.loader.dataset
        if not isinstance(dataset, CheckedDataset) or not isinstance(dataset.transform, Compose):
            return []
        if dataset.views is None:
            return _orientations(dataset.transform) if epochs - done > 1 else []
        to_come = range(done + 1, min(epochs, done + dataset.views.count) + 1)
        return [_view(dataset.views, self.seed, epoch) for epoch in to_come]


@contextmanager
def _view(views: Views, seed: int, epoch: int) -> Iterator[None]:
    views.begin(seed, epoch)
    yield


def _orientations(transforms: Compose) -> list[Pass]:
    """Every combination of flipped and not, of transforms whose only random ones are flips; else nothing."""
    random = [
        each
        for each in transforms.flatten().transforms
        if runs_each_time(each) and not getattr(each, "draws_nothing", False)
    ]
    flips = [each for each in random if type(each) is RandFlipd]
    if len(flips) < len(random):
        return []
    chances = [(flip.prob,) if flip.prob in (0, 1) else (0.0, 1.0) for flip in flips]
    return [_flipped(flips, each) for each in itertools.product(*chances)]


@contextmanager
def _flipped(flips: list[RandFlipd], chances: tuple[float, ...]) -> Iterator[None]:
    before = [flip.prob for flip in flips]
    try:
        for flip, chance in zip(flips, chances, strict=True):
            flip.prob = chance
        yield
    finally:
        for flip, chance in zip(flips, before, strict=True):
            flip.prob = chance
