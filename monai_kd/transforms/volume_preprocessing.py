"""Preprocessing of volumes of one or more channels: patches in training, whole volumes otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import (
    Compose,
    DeleteItemsd,
    EnsureChannelFirstd,
    EnsureTyped,
    Lambdad,
    LoadImaged,
    Orientationd,
    RandCropByPosNegLabeld,
    SpatialPadd,
)

from data_prep.limits import MAX_PIXELS

from ..io import VolumeReader
from .grid import SameGridd
from .masks import EmptyOwnMaskd
from .normalization import NORMALIZATION_OF_VOLUMES, NormalizeByd
from .planar import SqueezeSliced
from .regions import RegionMasksd
from .resampling import ResampleVolumed
from .upright import UprightInPlaned

__all__ = ["volume_preprocessing"]

_ANYWHERE = "foreground"  # key of the mask that patches are centred on


def volume_preprocessing(
    channels: int,
    spatial_dims: int = 3,
    regions: Mapping[str, Sequence[int]] | None = None,
    mask_names: Sequence[str] | None = None,
    multiclass: bool = False,
    label_as_in_file: bool = False,
    orientation: str | None = "RAS",
    spacing: Sequence[float] | None = None,
    normalization: Mapping[str, Any] | Sequence[Mapping[str, Any]] = NORMALIZATION_OF_VOLUMES,
    patch_size: Sequence[int] | None = None,
    patches: int = 1,
    foreground_share: float = 0.5,
    constant: bool = False,
    track_meta: bool = True,
    max_pixels: int = MAX_PIXELS,
    random: Sequence[Callable] = (),
) -> Compose:
    r"""The transforms of an item with ``image`` and, if requested, ``label``.

    They read, reorient, resample if requested, and normalise, unless told otherwise each channel by the mean and
    standard deviation of its nonzero values; in training, they crop random patches. Without patches nothing is random.

    Args:
        channels: channels of an image; ``image`` is a list with a file for each channel, or one file with all of them.
        spatial_dims: 3, or 2 for slices.
        regions: regions of the label, see `RegionMasks`; ``None``: no label is read.
        mask_names: which of the regions, in the order of the network's channels; ``None``: all.
        multiclass: whether the label becomes class indices, for a softmax over regions that do not overlap.
        label_as_in_file: whether the label is neither reoriented nor resampled, to evaluate masks on the voxels of the
            file.
        orientation: orientation of the axes, see MONAI's ``Orientation``; slices are turned upright instead, see
            `UprightInPlane`. ``None``: as in the file.
        spacing: voxel size to resample to in mm, one number for each axis; ``None``: as in the file.
        normalization: what sets the values, see `checked_normalization`.
        patch_size: size of random patches in voxels, one number for each axis; smaller images are padded with 0.
            ``None``: the whole image.
        patches: patches from each image in each epoch.
        foreground_share: probability that a patch is centred on a voxel of a region and not on one of the background.
        constant: whether a channel with a single value is accepted.
        track_meta: whether the result keeps its geometry, which is needed to bring masks back to the grid of the file.
        max_pixels: largest number of voxels of all channels together, see `data_prep.limits`.
        random: transforms that are appended, such as augmentation.

    Shape:
        - image: (channels, spatial axes …), float32; a list of ``patches`` items of ``patch_size`` in training
        - label: (regions, spatial axes …), 0 or 1; with ``multiclass`` (1, spatial axes …); float32

    Raises:
        ValueError: ``spatial_dims`` is neither 2 nor 3, a size does not have a number for each axis, patches are
            requested without a label, or as `RegionMasks`.
    """
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
    for name, lengths in (("spacing", spacing), ("patch_size, the image_size of a config,", patch_size)):
        if lengths is not None and (isinstance(lengths, (int, float)) or len(lengths) != spatial_dims):
            raise ValueError(f"{name} must be {spatial_dims} numbers, one for each axis, got {lengths}.")
    label = regions is not None
    if patch_size is not None and (not label or label_as_in_file):
        raise ValueError(
            "patch_size: patches are cropped around the regions of a label on the grid of the image: give regions, and "
            "leave label_as_in_file at False."
        )
    keys = ["image", "label"] if label else ["image"]
    limits: dict[str, Any] = {"constant": constant, "max_pixels": max_pixels, "spatial_dims": spatial_dims}
    steps: list[Callable] = [LoadImaged("image", VolumeReader, channels=channels, **limits)]
    if regions is not None:
        steps.append(LoadImaged("label", VolumeReader, channels=1, constant=True, max_pixels=max_pixels))
    steps.append(EnsureChannelFirstd(keys))
    if regions is not None:
        # The second refuses regions in the label of a volume that is listed as one without a tumour.
        steps += [RegionMasksd("label", regions, mask_names, exclusive=multiclass), EmptyOwnMaskd("label")]
        steps.append(SameGridd("label", "image"))
    moved = ["image"] if label_as_in_file else keys
    if orientation is not None:
        steps.append(UprightInPlaned(moved) if spatial_dims == 2 else Orientationd(moved, orientation, labels=_AXES))
    if spatial_dims == 2:
        # A label that stays as in its file is of one slice, too.
        steps.append(SqueezeSliced(keys))
    if spacing is not None:
        steps.append(ResampleVolumed(moved, spacing, max_pixels))
    steps.append(NormalizeByd("image", normalization))
    steps.append(EnsureTyped("image", dtype=torch.float32, track_meta=track_meta))
    if label:
        # A quarter of the memory of float32 where items are cached.
        steps.append(EnsureTyped("label", dtype=torch.uint8, track_meta=track_meta))
    if patch_size is not None:
        steps += [
            SpatialPadd(keys, patch_size),
            # MONAI takes the first of several channels of a label for the background.
            Lambdad("label", _any_region, overwrite=_ANYWHERE),
            RandCropByPosNegLabeld(
                keys, _ANYWHERE, patch_size, foreground_share, 1 - foreground_share, num_samples=patches
            ),
            DeleteItemsd(_ANYWHERE),
        ]
    if label:
        steps.append(EnsureTyped("label", dtype=torch.float32, track_meta=track_meta))
    return Compose([*steps, *random])


_AXES = (("L", "R"), ("P", "A"), ("I", "S"))


def _any_region(label: torch.Tensor) -> torch.Tensor:
    return label.amax(dim=0, keepdim=True)
