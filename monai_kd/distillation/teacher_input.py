"""Convert the student's batch to the input that a teacher was trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.utils import convert_to_tensor
from torch import nn

__all__ = ["AdaptInput", "resize_to", "scaling_between"]

# Normalisation that changes nothing.
_NO_SCALING = {"mean": 0.0, "std": 1.0}
_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resize_to(tensor: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Linear interpolation of (B, C, spatial axes …) to ``size``, ``align_corners=False``.

    A tensor of this size is returned itself.

    Example:
        >>> resize_to(torch.zeros(1, 2, 4, 4), [8, 6]).shape
        torch.Size([1, 2, 8, 6])
    """
    if list(tensor.shape[2:]) == list(size):
        return tensor
    return F.interpolate(tensor, size=list(size), mode=_MODES[len(size)], align_corners=False)


def scaling_between(given: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `AdaptInput`: ``mean`` and ``std`` of the settings of two networks, ``None`` for no normalisation.

    Example:
        >>> scaling_between({"mean": [0.5], "std": [0.2]}, {"mean": None, "std": None})
        {'mean_from': [0.5], 'std_from': [0.2], 'mean_to': 0.0, 'std_to': 1.0}
    """
    return {
        f"{name}_{end}": default if settings[name] is None else settings[name]
        for end, settings in (("from", given), ("to", wanted))
        for name, default in _NO_SCALING.items()
    }


class AdaptInput(nn.Module):
    r"""Convert a batch that was normalised for the student to channels, size and normalisation of a teacher.

    .. math:: x_t = \frac{\mathrm{resize}(x_s[c] \, σ_s[c] + μ_s[c]) - μ_t}{σ_t}

    with the channels c of the teacher. The normalisation must be by constants. A normalisation by the statistics of
    each image can't be undone; where both networks use it, leave ``mean…`` and ``std…`` at 0 and 1.

    If nothing differs, the input tensor itself is returned. The module has no parameters and an empty state dict.

    Args:
        mean_from, std_from: of the normalisation of the student's images: one number, or one per channel.
        mean_to, std_to: of the normalisation of the teacher's images: one number, or one for each of its channels.
        channels: for each channel of the teacher's image, the channel of the student's: ``[0, 0, 0]`` repeats one
            channel, ``[2]`` selects one. ``None`` keeps all.
        size: of the teacher's images, in pixels: one number for the first two spatial axes (the plane of a slice, also
            of a volume, whose depth is kept), or one per axis. Linear interpolation, ``align_corners=False``. ``None``
            keeps it.
        transform: of one image, (C, spatial axes …), at the end, such as MONAI's ``NormalizeIntensity``; it gets the
            image without the student's normalisation, which for slices is from 0 to 1, unless ``mean_to`` and
            ``std_to`` are given.
        told: what identifies the transform, for the `fingerprint` of a teacher.

    Shape:
        - input: (B, C, H, W) or (B, C, H, W, D)
        - output: (B, len(channels), *size)

    Raises:
        ValueError: a standard deviation or ``size`` is not positive, or numbers of channels do not match; when called,
            the image lacks such channels, or has another number of axes.

    Example:
        >>> adapt = AdaptInput(mean_from=0.5, std_from=0.5, mean_to=[0.485, 0.456, 0.406], channels=[0, 0, 0], size=224)
        >>> adapt(torch.zeros(2, 1, 256, 256)).shape
        torch.Size([2, 3, 224, 224])
    """

    def __init__(
        self,
        mean_from: float | Sequence[float] = 0.0,
        std_from: float | Sequence[float] = 1.0,
        mean_to: float | Sequence[float] = 0.0,
        std_to: float | Sequence[float] = 1.0,
        channels: Sequence[int] | None = None,
        size: int | Sequence[int] | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        told: str = "",
    ) -> None:
        super().__init__()
        # Plain values, which are part of the `fingerprint` of a teacher.
        self.mean_from, self.std_from = _numbers(mean_from), _numbers(std_from)
        self.mean_to, self.std_to = _numbers(mean_to), _numbers(std_to)
        self.channels = None if channels is None else [int(channel) for channel in channels]
        self.size = None if size is None else [int(side) for side in _numbers(size)]
        self.transform, self.told = transform, told
        if min(*self.std_from, *self.std_to) <= 0:
            raise ValueError(f"std_from and std_to must be positive, got {self.std_from} and {self.std_to}.")
        if self.size is not None and (not self.size or min(self.size) < 1):
            raise ValueError(f"size must be positive, got {size}.")
        if self.channels is not None and (not self.channels or min(self.channels) < 0):
            raise ValueError(f"channels must be numbers from 0, at least one, got {channels}.")
        for side, mean, std in (("from", self.mean_from, self.std_from), ("to", self.mean_to, self.std_to)):
            counts = {len(mean), len(std)} - {1}
            if side == "to" and self.channels is not None:
                counts.add(len(self.channels))
            if len(counts) > 1:
                raise ValueError(
                    f"mean_{side} {mean} and std_{side} {std} must be one number, or one for each channel"
                    f"{f' in channels {self.channels}' if side == 'to' and self.channels is not None else ''}."
                )
        self._same_values = self.mean_from == self.mean_to and self.std_from == self.std_to and self.channels is None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        given = image.shape[1]
        if not self._same_values:
            image = self._scaled(image, self.std_from, self.mean_from, "the student's image")
        if self.channels is not None:
            if max(self.channels) >= given:
                raise ValueError(f"channels {self.channels} of an image with {given}, counted from 0.")
            image = image[:, self.channels]
        image = resize_to(image, self._size(image))
        if not self._same_values:
            scale = [1 / std for std in self.std_to]
            shift = [-mean / std for mean, std in zip(*_both(self.mean_to, self.std_to), strict=True)]
            image = self._scaled(image, scale, shift, "the teacher's image")
        if self.transform is not None:
            # In float32: under autocast, the batch may be of lower precision.
            each = [convert_to_tensor(self.transform(one), track_meta=False) for one in image.float()]
            image = torch.stack(each).to(image)
        return image

    def _size(self, image: torch.Tensor) -> list[int]:
        axes = image.ndim - 2
        if self.size is None:
            return list(image.shape[2:])
        if len(self.size) == 1:
            # The depth of a volume is kept.
            return self.size * min(axes, 2) + list(image.shape[4:])
        if len(self.size) != axes:
            raise ValueError(f"size {self.size} for an image with {axes} spatial axes: one number, or one per axis.")
        return self.size

    @staticmethod
    def _scaled(image: torch.Tensor, scale: Sequence[float], shift: Sequence[float], whose: str) -> torch.Tensor:
        count = {len(scale), len(shift)} - {1}
        if count - {image.shape[1]}:
            raise ValueError(
                f"mean and std are of {', '.join(map(str, sorted(count)))} channels, {whose} has {image.shape[1]}."
            )
        shape = (1, -1, *[1] * (image.ndim - 2))
        return image * image.new_tensor(scale).reshape(shape) + image.new_tensor(shift).reshape(shape)


def _numbers(value: float | Sequence[float]) -> list[float]:
    return [float(value)] if isinstance(value, (int, float)) else [float(each) for each in value]


def _both(mean: list[float], std: list[float]) -> tuple[list[float], list[float]]:
    """Both with the length of the longer one, where one of them is a single number."""
    length = max(len(mean), len(std))
    return (mean * length if len(mean) == 1 else mean), (std * length if len(std) == 1 else std)
