"""Slices without a tumour in training and evaluation, made of slices with one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type

from ..io.plain import plain_tensor
from .masks import file_of
from .tumour_removal import operate_elsewhere, remove_tumour

__all__ = ["RandRemoveTumourd", "RemoveTumourd"]


class RandRemoveTumourd(RandomizableTransform, MapTransform):
    """Take the tumour out of a slice and empty its mask, with a probability; see `remove_tumour`.

    With the same probability, the operations are done at a place without tumour and the mask is kept, see
    `operate_elsewhere`: otherwise a network could learn to recognise the operation in place of the tumour. Slices to
    which no method applies stay as they are, which are about 1 in 6 of the Figshare data, and so do slices whose
    ``labelled`` is false, see `monai_kd.data.load_fold`: where their tumour is, is not known.

    Args:
        keys: the image and its label.
        prob: probability that the tumour is removed.
        elsewhere_prob: probability of the operation at another place; ``None``: as ``prob``, or what is left of 1.
        class_number: for a classification: what ``class`` of the item becomes where its tumour is taken out. Then the
            mask, which served to find the tumour, is dropped from every item.

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
        class_number: int | None = None,
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
        self.elsewhere_prob, self.class_number = elsewhere, class_number

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        chance = self.R.rand()
        if chance < self.prob + self.elsewhere_prob and out.get("labelled", True):
            operate = remove_tumour if chance < self.prob else operate_elsewhere
            _operate(operate, out, self.keys, self.R, self.class_number)
        if self.class_number is not None:
            del out[self.keys[1]]
        return out


class RemoveTumourd(MapTransform):
    """Take the tumours out of a share of the slices, always the same slices in the same way, for evaluation.

    Whether a slice is chosen, and the choices of `remove_tumour`, depend on its ``source`` and ``patient`` alone.
    Slices to which no method applies keep their tumour.

    Args:
        keys: the image, and its mask, which becomes empty.
        share: which share of the slices loses its tumour, 0 … 1.
        path: key of the path of the mask, for an evaluation that reads it again later. It becomes the path of the
            image, by which `EmptyOwnMaskd` knows that the slice has no tumour; and the mask is dropped. ``None``: the
            mask is used.
        class_number: as for `RandRemoveTumourd`.

    Shape:
        - image: (C, H, W); with ``path`` a ``MetaTensor`` that knows its file
        - mask: (L, H, W)
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "label"),
        share: float = 0.5,
        path: str | None = None,
        class_number: int | None = None,
    ) -> None:
        super().__init__(keys)
        self.share, self.path, self.class_number = share, path, class_number

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        image, mask = (out[key] for key in self.keys)
        seed = zlib.crc32(f"{out.get('source', '')} {out.get('patient', '')}".encode())
        random = np.random.RandomState(seed)
        chosen = random.rand() < self.share and mask.any()
        if chosen and _operate(remove_tumour, out, self.keys, random, self.class_number) and self.path is not None:
            out[self.path] = file_of(image, "")
        if self.path is not None or self.class_number is not None:
            del out[self.keys[1]]
        return out


def _operate(
    operate: Callable,
    item: dict[Hashable, Any],
    keys: Sequence[Hashable],
    random: np.random.RandomState,
    class_number: int | None,
) -> bool:
    """Whether a method applied; then the item has the new image and mask, and its class if the tumour is gone."""
    given = [item[key] for key in keys]
    if any(each.ndim != 3 for each in given):
        raise ValueError(f"expected single slices, (C, H, W), got {[tuple(each.shape) for each in given]}.")
    operated = operate(*map(plain_tensor, given), random)
    if operated is None:
        return False
    if class_number is not None and given[1].any() and not operated[1].any():
        item["class"] = class_number
    item.update((key, convert_to_dst_type(new, old)[0]) for key, new, old in zip(keys, operated, given, strict=True))
    return True
