"""A trial of random transforms, before a training."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, MapTransform, OneOf, RandSimulateLowResolutiond, SomeOf, apply_transform
from monai.transforms.traits import RandomizableTrait
from monai.utils.enums import CommonKeys as Keys

from ..config.errors import cause_of

__all__ = ["try_random"]

logger = logging.getLogger(__name__)


def try_random(transforms: Sequence[Callable], item: Any, named: str) -> None:
    """Run copies of random transforms once on an item, each with a probability of 1, also those within `Compose`.

    Of those of which one or some are drawn (`OneOf`, `SomeOf`), each is tried by itself on the same item.

    Without it, a transform that fails would end a training in its first epoch, after an earlier run in the folder was
    set aside, or, with a low probability, much later. Random generators are left as they are. A random spatial
    transform of the image without its mask is logged as a warning. One that can't be copied ends the trial.

    Args:
        transforms: in the order in which they run.
        item: what the first one gets; it may be changed.
        named: the item, for the error.

    Raises:
        ValueError: a transform fails, or gives image and mask different sizes; the message names it.
    """
    tried = list[Callable]()
    with suppress(TypeError):  # such as of one that holds a lock
        tried.extend(copy.deepcopy(each) for each in transforms)
    trial = _Trial(named)
    with _same_generators():
        item = trial.run(tried, item)
    # A later one may have done to the mask what this one did to the image.
    if trial.parted and len(set(_sizes(item))) > 1:
        image, mask = _sizes(item)
        raise ValueError(f"augmentation: after {trial.parted}, image and mask have the sizes {image} and {mask}.")


class _Trial:
    """Of transforms, which are changed.

    Attributes:
        named: the item, for errors.
        parted: name of the last transform after which image and mask no longer had one size; empty where none had.
    """

    def __init__(self, named: str) -> None:
        self.named, self.parted = named, ""

    def run(self, transforms: Iterable[Any], item: Any) -> Any:
        """What they make of an item."""
        for transform in transforms:
            if isinstance(transform, (OneOf, SomeOf)):
                found = [self.run([each], copy.deepcopy(item)) for each in transform.transforms] or [item]
                item = next((each for each in found if len(set(_sizes(each))) > 1), found[-1])
            elif isinstance(transform, Compose):
                item = self.run(transform.transforms, item)
            else:
                item = self._step(transform, item)
        return item

    def _step(self, transform: Any, item: Any) -> Any:
        name = getattr(transform, "__name__", type(transform).__name__)
        if 0 < getattr(transform, "prob", 0) < 1:
            transform.prob = 1.0
        before = _sizes(item)
        try:
            item = apply_transform(transform, item)
        except Exception as error:
            cause = cause_of(error)
            reason = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
            raise ValueError(
                f"augmentation: {name} fails on {self.named}, which was read without an error: {reason}"
            ) from error
        if len(set(before)) == 1 and len(set(_sizes(item))) > 1:
            self.parted = name
        if len(before) == 2 and _moves_at_random(transform) and Keys.LABEL not in transform.keys:
            logger.warning(
                "augmentation: %s moves the image and not its mask, which then do NOT fit together. Give it the "
                'keys ["image", "label"].',
                name,
            )
        return item


def _sizes(item: Any) -> list[tuple[int, ...]]:
    """Of image and mask, where an item has both."""
    if isinstance(item, list) and item:  # patches of a volume
        item = item[0]
    if not isinstance(item, Mapping):
        return []
    both = [item[key] for key in (Keys.IMAGE, Keys.LABEL) if isinstance(item.get(key), (torch.Tensor, np.ndarray))]
    return [tuple(each.shape[1:]) for each in both]


def _moves_at_random(transform: Any) -> bool:
    """Whether it draws how it moves the pixels: another one for the mask would draw otherwise."""
    spatial = type(transform).__module__.startswith("monai.transforms.spatial.")
    # Among MONAI's spatial ones, this one blurs: each pixel stays where it is.
    stays = isinstance(transform, RandSimulateLowResolutiond)
    drawn = isinstance(transform, MapTransform) and isinstance(transform, RandomizableTrait)
    return spatial and drawn and not stays


@contextmanager
def _same_generators() -> Iterator[None]:
    """Python's, numpy's and torch's, which the weights of the networks are drawn from."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
