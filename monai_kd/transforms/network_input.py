"""The last steps before the network, which are cheap and make an item large."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait

from ..networks.network_input import network_input

__all__ = ["NetworkInputd"]


class NetworkInputd(MapTransform, RandomizableTrait):
    """Repeat the grey channel and normalise it, with the numbers of ``RepeatChanneld`` and ``NormalizeIntensityd``.

    Nothing is random. It has MONAI's trait of random transforms so that caches, MONAI's too, keep the item before this
    step: one channel, with few different values.

    Args:
        keys: keys of images.
        channels: of the output.
        mean, std: one number for each channel, see `slice_preprocessing`; ``None`` for neither.

    Shape:
        - input: (1, spatial axes …), float32
        - output: (channels, spatial axes …), float32

    Example:
        >>> NetworkInputd("image", 2, mean=[0.0, 1.0], std=[1.0, 2.0])({"image": torch.ones(1, 1, 1)})["image"].tolist()
        [[[1.0]], [[0.0]]]
    """

    # See `monai_kd.data.Views`, which refuses what may draw random numbers of other generators than MONAI's.
    draws_nothing = True

    def __init__(
        self,
        keys: KeysCollection,
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels = int(channels)
        self.mean, self.std = (None if each is None else [float(number) for number in each] for each in (mean, std))

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = network_input(out[key], self.channels, self.mean, self.std)
        return out
