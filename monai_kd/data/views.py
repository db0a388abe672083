"""Random views of an item that repeat from epoch to epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.transforms import Compose, Randomizable, Transform
from monai.transforms.traits import RandomizableTrait

__all__ = ["Views"]

_LARGEST_SEED = 2**32 - 1


class Views:
    """Make random transforms give an item the same views again: that of epoch 1 in epoch 1 + n, 1 + 2n, and so on.

    Before an item is transformed, the random state of the transforms is set from the seed of the run, the number of the
    view and the number of the item. So a view depends neither on the order of the items nor on the process that makes
    it, and what was computed of it, such as the outputs of a teacher in a `TeacherStore`, can be used again.

    Args:
        transform: transforms of an item, whose random ones are MONAI's ``Randomizable``.
        count: number n of views of an item.

    Raises:
        ValueError: ``count`` is less than 1, or a transform may draw random numbers that MONAI's ``set_random_state``
            does not reach, such as those of torchvision or a function of one's own.

    Example:
        >>> from monai.transforms import RandGaussianNoise
        >>> views = Views(Compose([RandGaussianNoise(prob=1.0)]), 2)
        >>> def seen(epoch):
        ...     views.begin(seed=0, epoch=epoch)
        ...     views.choose(5)
        ...     return views.transform(np.zeros((1, 2, 2), np.float32))
        >>> bool((seen(3) == seen(1)).all()), bool((seen(2) == seen(1)).all())
        (True, False)
    """

    def __init__(self, transform: Compose, count: int) -> None:
        if count < 1:
            raise ValueError(f"views must be a whole number from 1, got {count}.")
        for each in transform.flatten().transforms:
            if _draws_unseen(each):
                raise ValueError(
                    f"views: {type(each).__name__} may draw random numbers that are not those of MONAI's transforms, "
                    "so its views can't be repeated: leave it out of `augmentation`, or views at null."
                )
        self.transform, self.count, self._run = transform, int(count), (0, 0)

    def begin(self, seed: int, epoch: int) -> None:
        """Choose the view of an epoch, counted from 1, of a run with this seed."""
        self._run = (int(seed), (epoch - 1) % self.count)

    def choose(self, index: int) -> None:
        """Set the random state for the item of this number."""
        # SeedSequence mixes the numbers, so that adjacent items and views have independent streams.
        (word,) = np.random.SeedSequence([*self._run, index]).generate_state(1)
        self.transform.set_random_state(seed=int(word) % _LARGEST_SEED)


def _draws_unseen(transform: Any) -> bool:
    if isinstance(transform, Randomizable) or getattr(transform, "draws_nothing", False):
        return False
    return isinstance(transform, RandomizableTrait) or not isinstance(transform, Transform)
