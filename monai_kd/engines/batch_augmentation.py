"""Augmentation of whole batches, on the device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.engines import default_prepare_batch
from monai.utils import ensure_tuple
from torch import nn

from ..extras import require_extra
from ..io.plain import plain_tensor
from ..networks.network_input import network_input

__all__ = ["BatchAugmentation"]

_ID = "batch_augmentation"
# In so many batches, a module with a small probability is applied in some.
_TRIALS = 16


class BatchAugmentation:
    """``prepare_batch`` that augments a batch of slices on the device, each with random parameters of its own.

    The batch moves to the device as grey slices, a third of the bytes of three channels. There, images and masks are
    augmented together in float32, masks by nearest neighbour; then the channel is repeated and normalised, as
    `monai_kd.transforms.NetworkInputd` does it for items; and ``prepare_batch`` gets the result.

    All randomness comes from torch's generators, so that `EpochSeed` fixes it. Modules are copied, since they keep what
    they drew last.

    Args:
        modules: augmentations of ``kornia.augmentation`` for 2-D images, or sequences of such, which keep the size of
            the image. Without any, a batch goes to ``prepare_batch`` as it is, and nothing else here has an effect.
        image_size: side of the slices in pixels, with which each module is tried.
        channels, mean, std: of the network's input, see `network_input`.
        keys: that of the image, and that of the mask if the batch has one.
        prepare_batch: what makes image and target of the augmented batch, such as `ClassBatch`.

    Shape:
        - image: (B, 1, H, W), from 0 to 1
        - mask: (B, 1, H, W), float: 0 or 1, or class indices; what moves in from outside a slice is 0
        - output: that of ``prepare_batch`` for an image (B, channels, H, W) and a mask (B, 1, H, W)

    Raises:
        ImportError: kornia is not installed.
        ValueError: a module is no such augmentation, fails on slices, or changes their size; when called: images have
            several channels, or a module has changed their size.

    Example:
        >>> batch = {"image": torch.ones(4, 1, 8, 8), "label": torch.zeros(4, 1, 8, 8)}
        >>> image, label = BatchAugmentation()(batch)
        >>> image is batch["image"]
        True
    """

    def __init__(
        self,
        modules: Sequence[nn.Module] = (),
        image_size: int = 256,
        channels: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        keys: str | Sequence[str] = ("image", "label"),
        prepare_batch: Callable[..., Any] = default_prepare_batch,
    ) -> None:
        self.keys, self.prepare_batch = ensure_tuple(keys), prepare_batch
        self.channels, self.mean, self.std = channels, mean, std
        self.modules = [copy.deepcopy(each) for each in modules]
        if not self.modules:
            return
        require_extra("kornia", ["kornia"], _ID)
        for number, module in enumerate(self.modules):
            self._check(f"{_ID}: entry {number}, {type(module).__name__},", module, image_size)
        self._sequence, self._device = self._together(self.modules), torch.device("cpu")

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> Any:
        if not self.modules:
            return self.prepare_batch(batch, device, non_blocking, **kwargs)
        given = [plain_tensor(batch[key]).to(device, non_blocking=non_blocking) for key in self.keys]
        image = given[0]
        if image.ndim != 4 or image.shape[1] != 1:
            raise ValueError(
                f"{_ID} takes slices before their channel is repeated and normalised, (B, 1, H, W), and got "
                f"{tuple(image.shape)}: a train#preprocessing of your own must call @slices with "
                f"network_input=not @{_ID}, as that of the bundle does."
            )
        if image.device != self._device:
            # Some modules have buffers; and random parameters are then drawn on the device.
            self._sequence, self._device = self._sequence.to(image.device), image.device
        augmented = _applied(self._sequence, given)
        _check_size(_ID, given, augmented)
        augmented[0] = network_input(augmented[0], self.channels, self.mean, self.std, axis=1)
        new = dict(zip(self.keys, augmented, strict=True))
        return self.prepare_batch({**batch, **new}, device, non_blocking, **kwargs)

    def _check(self, what: str, module: Any, image_size: int) -> None:
        """Refuse what would fail in some batch, or would leave masks where they were."""
        from kornia.augmentation import AugmentationBase2D, ImageSequential, PatchSequential, VideoSequential

        known = isinstance(module, (AugmentationBase2D, ImageSequential))
        # PatchSequential does not move masks.
        if not known or isinstance(module, (PatchSequential, VideoSequential)):
            raise ValueError(
                f"{what} is no augmentation of kornia for batches of slices: give those, such as {{'_target_': "
                "'kornia.augmentation.RandomAffine', 'degrees': 30}. Transforms of MONAI go into augmentation."
            )
        black = [torch.zeros(2, 1, image_size, image_size) for _ in self.keys]
        with torch.random.fork_rng(devices=[]):
            sequence = self._together([copy.deepcopy(module)])
            for _ in range(_TRIALS):
                try:
                    found = _applied(sequence, black)
                except Exception as error:
                    masks = " with masks" if len(black) > 1 else ""
                    raise ValueError(f"{what} fails on slices{masks}: {type(error).__name__}: {error}") from None
                _check_size(what, black, found)

    def _together(self, modules: Sequence[Any]) -> nn.Module:
        from kornia.augmentation import AugmentationSequential
        from kornia.constants import DataKey, Resample

        nearest = {DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": None}}
        return AugmentationSequential(*modules, data_keys=["input", "mask"][: len(self.keys)], extra_args=nearest)


def _applied(sequence: nn.Module, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    found = sequence(*given)
    # kornia returns a single tensor as it is, and several in a list.
    return [found] if isinstance(found, torch.Tensor) else list(found)


def _check_size(what: str, given: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> None:
    for before, after in zip(given, found, strict=True):
        if before.shape != after.shape:
            raise ValueError(
                f"{what} changes the size of slices, from {tuple(before.shape[2:])} to {tuple(after.shape[2:])}, and "
                "the network needs image_size: leave it out, or set its size to that."
            )
