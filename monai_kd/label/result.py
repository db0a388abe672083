"""Masks as MONAI Label's own app for bundles can write them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..io.kinds import kind_by_suffix
from ..transforms import index_map

__all__ = ["ForMonaiLabeld", "is_lossy"]

REQUEST_KEY = "image_path"  # MONAI Label adds it to the items of the transforms
EXTENSION_KEY = "result_extension"  # of the mask that is written; without it, that of the image


class ForMonaiLabeld(MapTransform):
    """Last step of a bundle: shape the mask so that MONAI Label's app ``monaibundle`` writes it as the file is.

    That app takes ``SaveImaged`` out and puts two steps of its own behind this one. ``Restored`` resizes the mask
    unless its last axes are those of ``spatial_shape``; the writer gives ITK the affine of masks with three axes only,
    and takes a channel for an axis. So all but pictures leave with a depth, of 1 when the file has none, and pictures
    without a channel. The mask of a JPEG is written as PNG: JPEG changes its values. Masks that may overlap
    become indices, of which a pixel has the last, as labels can't overlap. Other runs of the bundle are left alone.

    Args:
        keys: of the masks.
        ref_image: key of the image they belong to.

    Shape:
        - input: (1, X, Y) or (1, X, Y, Z); of classes that may overlap (C, X, Y) or (C, X, Y, Z)
        - output: (X, Y) for a picture, else (1, X, Y, Z)
    """

    def __init__(self, keys: KeysCollection, ref_image: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ref_image = ref_image

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        if REQUEST_KEY not in out:
            return out
        picture = kind_by_suffix(str(out[REQUEST_KEY])) == "picture"
        wanted = out.get(EXTENSION_KEY) or (Path(str(out[REQUEST_KEY])).suffix if picture else None)
        if wanted and is_lossy(wanted):
            out[EXTENSION_KEY] = ".png"
        for key in self.key_iterator(out):
            mask = _indices(out[key])
            out[key] = mask[0] if picture else mask.reshape(*mask.shape[:3], -1)
            out[self.ref_image].meta["spatial_shape"] = tuple(out[key].shape[-2 if picture else -3 :])
        return out


def is_lossy(suffix: str) -> bool:
    """Whether files with this suffix do not hold the values of a mask as they are.

    Example:
        >>> is_lossy(".JPG"), is_lossy(".png")
        (True, False)
    """
    return suffix.lower() in (".jpg", ".jpeg")


def _indices(masks: torch.Tensor) -> torch.Tensor:
    if len(masks) == 1:
        return masks
    indices = torch.as_tensor(index_map(np.asarray(torch.as_tensor(masks).cpu()))[None], device=masks.device)
    return MetaTensor(indices, meta=masks.meta) if isinstance(masks, MetaTensor) else indices
