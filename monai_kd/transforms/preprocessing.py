"""Preprocessing of slices, the same in training, evaluation and inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    CopyItemsd,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    RepeatChanneld,
)

from data_prep.limits import MAX_PIXELS

from ..io import SliceReader
from .grid import SameGridd
from .masks import ClassOfMaskd, DeclaredMaskd, EmptyOwnMaskd
from .negatives import RemoveTumourd
from .network_input import NetworkInputd
from .planar import ResizeInPlaned, ScaleSliceIntensityd, SqueezeSliced
from .upright import UprightInPlaned

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "slice_preprocessing"]

# Mean and standard deviation of RGB images scaled to 0 … 1, with which pretrained networks were trained.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def slice_preprocessing(
    image_size: int,
    channels: int = 3,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
    label: bool = False,
    multiclass: bool = False,
    mask_value: int | Mapping[int, int] | None = None,
    single_slices: bool = False,
    upright: bool = True,
    constant: bool | None = None,
    track_meta: bool = True,
    max_pixels: int = MAX_PIXELS,
    of_head: bool = True,
    random: Sequence[Callable] = (),
    negative_share: float = 0.0,
    augment: Sequence[Callable] = (),
    network_input: bool = True,
) -> Compose:
    """The transforms of an item with the paths ``image`` and, if requested, ``label``.

    They read, turn upright, scale each slice to 0 … 1, resize in the plane, repeat the channel and normalise.

    Args:
        image_size: side length of the network's square input, in pixels.
        channels: input channels of the network; the grey values are repeated.
        mean, std: one number for each channel: the scaled image has ``mean`` subtracted and is divided by ``std``;
            ``None`` for neither.
        label: whether to read the mask too, onto the grid of the image.
        multiclass: whether the mask becomes class indices: 1 + ``class`` of the item within the tumour.
        mask_value: value of the tumour in mask files, see `DeclaredMaskd`.
        single_slices: whether an item is one slice, (C, H, W), see `SqueezeSliced`; otherwise volumes are kept whole,
            (C, H, W, D).
        upright: whether to turn slices as viewers show them, see `UprightInPlane`.
        constant: whether an image with a single value is accepted; ``None``: only with ``single_slices``.
        track_meta: whether the result keeps its geometry, which is needed to bring a mask back to the grid of the file.
            Without it, caches keep the slice before its channel is repeated and normalised, see `NetworkInputd`.
        max_pixels: largest number of pixels of one file, see `data_prep.limits`.
        of_head: whether images must be of a head, see `read_source`. Slices of a data list, with ``single_slices``, are
            what the list says, and are not checked.
        augment: transforms of the resized slice while it still has one channel with values from 0 to 1: augmentation
            there costs a third, noise is the same in all channels, and 0 is the background.
        network_input: whether the channel is repeated and normalised. Without, the image keeps one channel with values
            from 0 to 1, for `monai_kd.engines.BatchAugmentation`, which does both on the device.
        random: transforms that are appended, such as augmentation.
        negative_share: share of the slices whose tumours are taken out, see `RemoveTumourd`; without ``label``.

    Shape:
        - image: (channels, image_size, image_size) or (channels, image_size, image_size, D), float32; without
          ``network_input`` one channel
        - label: (1, image_size, image_size), float32

    Raises:
        ValueError: ``mean`` and ``std`` do not have ``channels`` numbers each, or ``image_size`` is not one number.
    """
    if not isinstance(image_size, int):
        raise ValueError(
            f"image_size must be the side of a square in pixels, got {image_size}. For a network that was trained on "
            "patches of volumes, add the config of volumes, see docs/volumes.md."
        )
    if (mean is None) != (std is None) or any(each is not None and len(each) != channels for each in (mean, std)):
        raise ValueError(f"mean and std must be {channels} numbers each, one for each channel, got {mean} and {std}.")
    if negative_share and (label or not single_slices):
        raise ValueError("negative_share: tumours are taken out of single slices, whose label remains a path.")
    if not network_input:
        channels, mean, std = 1, None, None
    mask = "label" if label else "mask"
    keys = ["image", mask] if label or negative_share else ["image"]
    constant = single_slices if constant is None else constant
    checks: dict[str, Any] = {"constant": constant, "max_pixels": max_pixels, "of_head": of_head and not single_slices}
    read = LoadImaged(keys, SliceReader, image_only=True, **checks)
    steps: list[Callable] = [read, EnsureChannelFirstd(keys)]
    if negative_share:
        steps.insert(0, CopyItemsd("label", names=mask))
    if len(keys) > 1:
        steps += [EmptyOwnMaskd(mask), DeclaredMaskd(mask, mask_value), SameGridd(mask, "image")]
    if multiclass:
        steps.append(ClassOfMaskd("label"))
    if upright:
        steps.append(UprightInPlaned(keys))
    if single_slices:
        steps.append(SqueezeSliced(keys))
    steps.append(ScaleSliceIntensityd("image"))
    steps.append(ResizeInPlaned(keys, image_size, ["bilinear", "nearest"][: len(keys)]))
    if augment or not track_meta:
        steps.append(EnsureTyped(keys, dtype=torch.float32, track_meta=track_meta))
    steps += augment
    if not track_meta:
        removal = [RemoveTumourd(("image", mask), negative_share)] if negative_share else []
        return Compose([*steps, NetworkInputd("image", channels, mean, std), *removal, *random])
    if channels > 1:
        steps.append(RepeatChanneld("image", channels))
    if mean is not None and std is not None:
        steps.append(NormalizeIntensityd("image", np.asarray(mean), np.asarray(std), channel_wise=True))
    if negative_share:
        steps.append(RemoveTumourd(("image", mask), negative_share, path="label"))
    steps.append(EnsureTyped(["image", "label"] if label else "image", dtype=torch.float32, track_meta=track_meta))
    return Compose([*steps, *random])
