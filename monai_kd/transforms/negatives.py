"""Slices without a tumour in training and evaluation, made of slices with one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type

from .masks import file_of
from .tumour_removal import operate_elsewhere, remove_tumour

__all__ = ["RandRemoveTumourd", "RemoveTumourd"]


class RandRemoveTumourd(RandomizableTransform, MapTransform):
    """Take the tumour out of a slice and empty its mask, with a probability; see `remove_tumour`.

    With the same probability, the operations are done at a place without tumour and the mask is kept, see
    `operate_elsewhere`: otherwise a network could learn to recognise the operation in place of the tumour. Slices to
    which no method applies stay as they are, which are about 1 in 10 of the Figshare data.

    Args:
        keys: the image and its label.
        prob: probability that the tumour is removed.
        elsewhere_prob: probability of the operation at another place; ``None``: as ``prob``, or what is left of 1.

    Shape:
        - image: (C, H, W), float, an upright slice
        - label: (L, H, W), tumour where not 0

    Raises:
        ValueError: there are other than two keys, a probability is not in 0 … 1 or both add up to more than 1; when
            called: an image is no single slice.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        prob: float = 0.3,
        elsewhere_prob: float | None = None,
    ) -> None:
        MapTransform.__init__(self, keys)
        elsewhere = min(prob, 1 - prob) if elsewhere_prob is None else elsewhere_prob
        if len(self.keys) != 2:
            raise ValueError(f"keys must be that of the image and that of its label, got {self.keys}.")
        if not (0 <= prob <= 1 and 0 <= elsewhere <= 1 and prob + elsewhere <= 1):
            raise ValueError(
                f"prob and elsewhere_prob must be probabilities that add up to at most 1, got {prob} and {elsewhere}."
            )
        RandomizableTransform.__init__(self, prob)
        self.elsewhere_prob = elsewhere

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        chance = self.R.rand()
        if chance >= self.prob + self.elsewhere_prob:
            return out
        operate = remove_tumour if chance < self.prob else operate_elsewhere
        operated = _operated(operate, [out[key] for key in self.keys], self.R)
        return out if operated is None else {**out, **dict(zip(self.keys, operated, strict=True))}


class RemoveTumourd(MapTransform):
    """Take the tumours out of a share of the slices for evaluation, always the same slices in the same way.

    Whether a slice is chosen, and the choices of `remove_tumour`, depend on its image's file name and ``source`` alone.
    The slice then gets the path of its image as its ``label``, by which `EmptyOwnMaskd` knows that it has no tumour.
    Slices to which no method applies keep their tumour.

    Args:
        keys: the image, and a mask on its grid under a key that is not ``"label"``; the mask is removed from the item.
        share: which share of the slices loses its tumour, 0 … 1.
        label: key of the path of the label.

    Shape:
        - image: (C, H, W), a ``MetaTensor`` that knows its file
        - mask: (1, H, W)
    """

    def __init__(self, keys: KeysCollection = ("image", "mask"), share: float = 0.5, label: str = "label") -> None:
        super().__init__(keys)
        self.share, self.label = share, label

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        image, mask = out[self.keys[0]], out.pop(self.keys[1])
        path = file_of(image, "")
        # Not the folder, so that a copied data set has the same negatives.
        seed = zlib.crc32(f"{Path(path).name} {out.get('source', '')}".encode())
        random = np.random.RandomState(seed)
        if random.rand() < self.share and mask.any():
            operated = _operated(remove_tumour, [image, mask], random)
            if operated is not None:
                out[self.keys[0]], out[self.label] = operated[0], path
        return out


def _operated(operate: Callable, given: list[torch.Tensor], random: np.random.RandomState) -> list[torch.Tensor] | None:
    if any(each.ndim != 3 for each in given):
        raise ValueError(f"expected single slices, (C, H, W), got {[tuple(each.shape) for each in given]}.")
    # Every operation on a MetaTensor is several times slower.
    plain = [each.as_tensor() if isinstance(each, MetaTensor) else each for each in given]
    operated = operate(*plain, random)
    if operated is None:
        return None
    return [convert_to_dst_type(new, old)[0] for new, old in zip(operated, given, strict=True)]
