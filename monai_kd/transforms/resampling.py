"""Resampling of volumes to voxels of one size."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import Spacingd

from data_prep.limits import MAX_PIXELS

from ..io.plain import plain_tensor
from ..io.unreadable import UnreadableImage

__all__ = ["NEAR_ZERO", "ResampleVolumed"]

# Share of the largest value up to which interpolation has only rounded 0.
NEAR_ZERO = 1e-5


class ResampleVolumed(Spacingd):
    """MONAI's ``Spacingd`` for volumes from anywhere: bounded, and with a background that stays 0.

    At the edge of a background of 0, coordinates that are rounded leave values of about 1e-5 of the largest one, which
    a normalisation of nonzero values would count; they become 0.

    Args:
        keys: images, (C, X, Y, Z), or (C, X, Y); the first is interpolated linearly, others by the nearest neighbour.
        pixdim: size of a voxel in mm, one number for each axis.
        max_pixels: largest number of voxels of all channels together, see `data_prep.limits`.

    Raises:
        UnreadableImage: when called: there would be more; few large voxels make many small ones.
    """

    def __init__(self, keys: Sequence[str], pixdim: Sequence[float], max_pixels: int = MAX_PIXELS) -> None:
        self.wanted, self.max_pixels = [float(each) for each in pixdim], int(max_pixels)
        super().__init__(keys, self.wanted, mode=["bilinear", *["nearest"] * (len(keys) - 1)])

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        image = data[self.keys[0]]
        axes = len(self.wanted)
        sides = np.ceil(np.array(image.shape[1:]) * np.asarray(image.pixdim)[:axes] / self.wanted)
        if (count := image.shape[0] * float(np.prod(sides))) > self.max_pixels:
            size = " x ".join(f"{side:.0f}" for side in sides)
            raise UnreadableImage(
                f"resampled to voxels of {' x '.join(f'{each:g}' for each in self.wanted)} mm it would have {size} "
                f"voxels in {image.shape[0]} channels, {count / 1e6:.0f} million, more than "
                f"{self.max_pixels / 1e6:.0f}: are its voxels really so large?"
            )
        out = super().__call__(data, lazy)
        values = plain_tensor(out[self.keys[0]])
        magnitude = values.abs()
        values[magnitude <= NEAR_ZERO * magnitude.flatten(1).amax(1).reshape(-1, *[1] * axes)] = 0
        return out
