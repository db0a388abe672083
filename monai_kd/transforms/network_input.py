"""The last steps before the network, which are cheap and make an item large."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.transforms.traits import RandomizableTrait

__all__ = ["NetworkInputd", "network_input"]


def network_input(
    image: torch.Tensor, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None, dim: int = 0
) -> torch.Tensor:
    """Repeat the grey channel and normalise it, with the numbers of ``RepeatChanneld`` and ``NormalizeIntensityd``.

    Args:
        image: with one channel in the dimension ``dim``.
        channels: of the output.
        mean, std: one number for each channel; ``None`` for neither.
        dim: the dimension of the channel, 0 of an image and 1 of a batch.
    """
    if channels > 1:
        image = image.expand(*image.shape[:dim], channels, *image.shape[dim + 1 :])
    if mean is not None and std is not None:
        shape = (-1, *[1] * (image.ndim - dim - 1))
        image = (image - image.new_tensor(mean).reshape(shape)) / image.new_tensor(std).reshape(shape)
    return image.contiguous()


class NetworkInputd(MapTransform, RandomizableTrait):
    """`network_input` of an item.

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
