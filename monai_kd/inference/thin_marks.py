"""Leaving out marks that reach over too little of a volume to be believed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..config.checks import is_number
from ..metrics import SliceStack, label_lesions, lesion_extents
from .examination import EXAMINATION

__all__ = ["DropThinMarksd"]


class DropThinMarksd(MapTransform):
    """Set lesions of a volume to 0 that reach less than a length along its slices.

    A lesion is a connected area of any class over the slices, see `monai_kd.metrics.label_lesions`; the thicknesses of
    its slices are added. With slices of 1 mm and ``smallest_extent_mm`` 3, marks on one or two neighbouring slices are
    dropped; with slices of 6 mm, none is. Single slices, and masks without geometry, stay as they are. The number of
    dropped marks is added under ``examination`` as ``dropped_marks``.

    Args:
        keys: masks or indices of classes, ``MetaTensor`` with the metadata of `read_image`.
        smallest_extent_mm: lesions below it are dropped; 0 keeps all.

    Shape:
        - input and output: (C, X, Y) or (C, X, Y, Z)

    Raises:
        ValueError: ``smallest_extent_mm`` is negative or no number.
    """

    def __init__(self, keys: KeysCollection, smallest_extent_mm: float = 0.0, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        if not is_number(smallest_extent_mm):
            raise ValueError(f"smallest_extent_mm must be a number from 0, got {smallest_extent_mm!r}.")
        self.smallest_extent_mm = float(smallest_extent_mm)

    @property
    def decides(self) -> bool:
        """Whether anything can be dropped."""
        return self.smallest_extent_mm > 0

    def __str__(self) -> str:
        return (
            f"marks that reach over less than {self.smallest_extent_mm:g} mm across the slices of a volume are dropped"
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            mask = out[key]
            if self.smallest_extent_mm > 0 and isinstance(mask, MetaTensor) and mask.ndim == 4 and mask.shape[-1] > 1:
                out[key], dropped = self._drop(mask)
                out[EXAMINATION] = {**out.get(EXAMINATION, {}), "dropped_marks": dropped}
        return out

    def _drop(self, mask: MetaTensor) -> tuple[torch.Tensor, int]:
        plain = mask.as_tensor()
        stack = SliceStack.of(mask.meta, plain.shape[-1])
        lesions = label_lesions((plain != 0).any(dim=0).cpu().numpy(), stack.linked)
        # Positions are read from headers and added up: 3 slices of 1 mm need not be 3 mm to the last digit.
        thin = lesion_extents(lesions, stack) < self.smallest_extent_mm - 1e-3
        thin[0] = False
        if not thin.any():
            return mask, 0
        keep = torch.as_tensor(~thin[lesions], device=plain.device)
        return mask * keep.to(plain.dtype), int(np.count_nonzero(thin))
