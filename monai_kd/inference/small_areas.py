"""Leaving out what is too small to be believed."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from scipy import ndimage

from ..config.checks import is_number

__all__ = ["DropSmallAreasd"]

logger = logging.getLogger(__name__)
WITH_CORNERS = np.ones((3, 3), dtype=bool)


class DropSmallAreasd(MapTransform):
    """Set connected areas of a mask that are smaller than a limit to 0, slice by slice.

    Pixels of one value that touch by a corner are connected: areas of two classes that touch stay two. Where the
    spacing is not known, as in pictures, everything is kept and a warning is logged.

    Args:
        keys: masks or indices of classes, ``MetaTensor``, with ``spacing`` in their metadata as `read_image` gives it.
        smallest_area_mm2: areas below it are dropped; 0 keeps all.

    Shape:
        - input and output: (C, X, Y) or (C, X, Y, Z)

    Raises:
        ValueError: ``smallest_area_mm2`` is negative or no number.
    """

    def __init__(self, keys: KeysCollection, smallest_area_mm2: float = 0.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if not is_number(smallest_area_mm2):
            raise ValueError(f"smallest_area_mm2 must be a number from 0, got {smallest_area_mm2!r}.")
        self.smallest_area_mm2 = float(smallest_area_mm2)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        if self.smallest_area_mm2 > 0:
            for key in self.key_iterator(out):
                out[key] = self._drop(out[key])
        return out

    def _drop(self, mask: torch.Tensor) -> torch.Tensor:
        spacing = mask.meta.get("spacing", np.nan) if isinstance(mask, MetaTensor) else np.nan
        pixel = float(np.prod(np.asarray(spacing).ravel()[:2]))
        if not isinstance(mask, MetaTensor) or np.isnan(pixel):
            logger.warning("smallest_area_mm2 is not applied to an image whose spacing is not known.")
            return mask
        array = np.array(torch.as_tensor(mask).cpu())
        planes = np.moveaxis(array, (1, 2), (-2, -1))  # a view: writing to it writes to `array`
        for index in np.ndindex(planes.shape[:-2]):
            plane = planes[index]
            for value in np.unique(plane[plane != 0]):
                areas, _ = ndimage.label(plane == value, WITH_CORNERS)
                sizes = np.bincount(areas.ravel()) * pixel
                plane[(areas > 0) & (sizes[areas] < self.smallest_area_mm2)] = 0
        kept = torch.as_tensor(array, dtype=mask.dtype, device=mask.device)
        return MetaTensor(kept, meta=mask.meta, applied_operations=mask.applied_operations)
