"""Augmentation of whole batches, on the device of the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.engines.utils import default_prepare_batch
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from ..extras import require_extra
from ..io.plain import plain_tensor
from .network_input import network_input

__all__ = ["KORNIA", "AugmentBatch"]

KORNIA = "kornia"


class AugmentBatch:
    """``prepare_batch`` of a trainer that augments batches on the device, each item with random parameters of its own.

    The augmentation is kornia's (https://kornia.github.io), which draws the parameters of all items at once and changes
    the batch as a whole. Items come from the data set with one channel and grey values from 0 to 1, see ``for_batches``
    of `slice_preprocessing`, which are fewer bytes to move. After the augmentation the channel is repeated and
    normalised as by `NetworkInputd`. Where transforms move the image, they move ``label`` by the same parameters, with
    the nearest value, and what comes in from outside is 0.

    The parameters come from torch's generator, so that `monai_kd.handlers.EpochSeed` fixes them.

    Args:
        transforms: kornia's, such as ``kornia.augmentation.RandomAffine``. With none, batches are only prepared.
        channels, mean, std: as for `NetworkInputd`.
        prepare_batch: what prepares the batch after that, for a classification `monai_kd.engines.ClassBatch`.

    Shape:
        - image: (B, 1, H, W) to (B, channels, H, W), float32
        - label, if there is one: (B, 1, H, W)

    Raises:
        ValueError: a transform is not one of kornia's; or, when called, an image does not have one channel, or a
            transform changes the size of the images.
        ImportError: there are transforms, and kornia is not installed.
    """

    def __init__(
        self,
        transforms: Sequence[nn.Module] = (),
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        prepare_batch: Callable[..., Any] = default_prepare_batch,
    ) -> None:
        self.prepare_batch, self.channels, self.mean, self.std = prepare_batch, int(channels), mean, std
        # Of images alone, and of images with their masks; nearest for masks is kornia's own default.
        self.augment: dict[int, Any] = {}
        if transforms:
            self.augment = {1: _sequence(list(transforms), "input"), 2: _sequence(list(transforms), "input", "mask")}

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> Any:
        if self.augment:
            batch = self._augmented(batch, device, non_blocking)
        return self.prepare_batch(batch, device, non_blocking, **kwargs)

    @torch.no_grad()
    def _augmented(
        self, batch: Mapping[str, Any], device: torch.device | str | None, non_blocking: bool
    ) -> dict[str, Any]:
        keys = [key for key in (Keys.IMAGE, Keys.LABEL) if isinstance(batch.get(key), torch.Tensor)]
        before = [plain_tensor(batch[key]).to(device, non_blocking=non_blocking) for key in keys]
        image = before[0]
        if image.ndim != 4 or image.shape[1] != 1:
            raise ValueError(
                f"batch_augmentation: a batch of slices with one channel (B, 1, H, W) is needed, got "
                f"{tuple(image.shape)}: a train#preprocessing of your own needs for_batches=@batch_augmentation, and "
                "patches of volumes are augmented one by one, by `augmentation`."
            )
        after = self.augment[len(keys)](*before)
        found: dict[str, torch.Tensor] = dict(zip(keys, [after] if len(keys) == 1 else after, strict=True))
        if found[Keys.IMAGE].shape != image.shape:
            raise ValueError(
                f"batch_augmentation: images of {tuple(image.shape[2:])} become {tuple(found[Keys.IMAGE].shape[2:])}: "
                "take transforms that keep the size, such as RandomAffine in place of a crop."
            )
        found[Keys.IMAGE] = network_input(found[Keys.IMAGE], self.channels, self.mean, self.std, dim=1)
        return {**batch, **found}


def _sequence(transforms: list[Any], *data_keys: str) -> Any:
    require_extra(KORNIA, [KORNIA], "batch_augmentation")
    from kornia.augmentation import AugmentationBase2D, AugmentationSequential

    for each in transforms:
        if not isinstance(each, AugmentationBase2D):
            raise ValueError(
                f"batch_augmentation: {type(each).__name__} is no augmentation of images by kornia; MONAI's transforms "
                "belong in `augmentation`."
            )
    return AugmentationSequential(*transforms, data_keys=list(data_keys))
