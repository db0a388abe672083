"""A trial of random transforms, before a training."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, apply_transform
from monai.utils.enums import CommonKeys as Keys

from ..config.errors import cause_of

__all__ = ["try_random"]

logger = logging.getLogger(__name__)


def try_random(transforms: Sequence[Callable], item: Any, named: str) -> None:
    """Run copies of random transforms once on an item, each with a probability of 1.

    Without it, a transform that fails would end a training in its first epoch, after an earlier run in the folder was
    set aside, or, with a low probability, much later. Random generators are left as they are. A spatial transform of
    the image without its mask is logged as a warning.

    Args:
        transforms: in the order in which they run.
        item: what the first one gets; it may be changed.
        named: the item, for the error.

    Raises:
        ValueError: a transform fails, or gives image and mask different sizes; the message names it.
    """
    with _same_generators():
        for transform in transforms:
            name = getattr(transform, "__name__", type(transform).__name__)
            tried: Any = copy.deepcopy(transform)
            if 0 < getattr(tried, "prob", 0) < 1:
                tried.prob = 1.0
            before = _sizes(item)
            try:
                item = apply_transform(tried, item)
            except Exception as error:
                cause = cause_of(error)
                reason = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
                raise ValueError(
                    f"augmentation: {name} fails on {named}, which was read without an error: {reason}"
                ) from error
            after = _sizes(item)
            if len(set(before)) == 1 and len(set(after)) > 1:
                raise ValueError(
                    f"augmentation: after {name}, image and mask have the sizes {after[0]} and {after[1]}."
                )
            if len(before) == 2 and _is_spatial(tried) and Keys.LABEL not in tried.keys:
                logger.warning(
                    "augmentation: %s moves the image and not its mask, which then do NOT fit together. Give it the "
                    'keys ["image", "label"].',
                    name,
                )


def _sizes(item: Any) -> list[tuple[int, ...]]:
    """Of image and mask, where an item has both."""
    if isinstance(item, list) and item:  # patches of a volume
        item = item[0]
    if not isinstance(item, Mapping):
        return []
    both = [item[key] for key in (Keys.IMAGE, Keys.LABEL) if isinstance(item.get(key), (torch.Tensor, np.ndarray))]
    return [tuple(each.shape[1:]) for each in both]


def _is_spatial(transform: Any) -> bool:
    return isinstance(transform, MapTransform) and type(transform).__module__.startswith("monai.transforms.spatial.")


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
