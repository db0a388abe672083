"""Whether a picture has the shape of a slice through a whole head."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import label, regionprops

__all__ = ["is_head_shaped"]

# Of 2,454 slices of the Figshare data at 256 × 256, 3 are beyond these bounds, and none of the 25 of a volume from
# elsewhere. Of stripes, chequers and noise none is within them.
BRIGHT = 0.1
SIDE = 128  # pixels of the shorter side, at least, of a picture that has as many
BRIGHTEST_FRAME, SMALLEST_SHARE, LEAST_SOLIDITY, LEAST_OF_ALL = 0.2, 0.05, 0.75, 0.8


def is_head_shaped(picture: np.ndarray) -> bool:
    """Whether there is one compact bright area on a dark ground.

    With the picture scaled to 0 … 1, its frame (the outermost 3 % on each side) must be dark in the middle of its
    values; of the pixels above 0.1, without specks, one connected area must have most, and most of its convex hull.

    Every k-th pixel is looked at, so that the shorter side has 128 to 255: on 512 × 512 that is 15 times as fast, and
    noise makes fewer holes.

    It distinguishes stripes, noise, crops and photographs from heads, but neither other sequences nor round phantoms.

    Args:
        picture: (X, Y), grey values.

    Example:
        >>> x, y = np.mgrid[:64, :64]
        >>> is_head_shaped((x - 32) ** 2 + (y - 30) ** 2 < 20**2), is_head_shaped(x // 8 % 2)
        (True, False)
    """
    every = max(1, min(picture.shape) // SIDE)
    values = np.asarray(picture[::every, ::every], dtype=float)
    values = (values - values.min()) / max(float(np.ptp(values)), np.finfo(float).tiny)
    inner = np.zeros(values.shape, bool)
    inner[tuple(slice(edge, length - edge) for length in values.shape for edge in [max(1, round(0.03 * length))])] = (
        True
    )
    if np.median(values[~inner]) > BRIGHTEST_FRAME:
        return False
    areas = regionprops(label(ndimage.binary_opening(values > BRIGHT), connectivity=1))
    if not areas:
        return False
    head = max(areas, key=lambda area: area.area)
    return bool(
        head.area_filled >= SMALLEST_SHARE * values.size
        and head.area >= LEAST_OF_ALL * sum(area.area for area in areas)
        and head.area_filled >= LEAST_SOLIDITY * head.area_convex
    )
