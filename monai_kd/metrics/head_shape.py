"""Whether a picture has the shape of a slice through a whole head."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import label, regionprops

__all__ = ["is_head_shaped"]

# Bounds far beyond what was measured: on 99 slices of the Figshare data and on the 25 of a volume from elsewhere the
# frame was at most 0.06, the head at least 0.17 of the picture and 0.97 of what is bright, and its solidity at least
# 0.86. Of stripes, chequers and noise none is within them.
BRIGHT = 0.1
BRIGHTEST_FRAME, SMALLEST_SHARE, LEAST_SOLIDITY, LEAST_OF_ALL = 0.2, 0.05, 0.75, 0.8


def is_head_shaped(picture: np.ndarray) -> bool:
    """Whether there is one compact bright area on a dark ground.

    With the picture scaled to 0 … 1, its frame (the outermost 3 % on each side) must be dark in the middle of its
    values; of the pixels above 0.1, without specks, one connected area must have most, and most of its convex hull.

    It distinguishes stripes, noise, crops and photographs from heads, but neither other sequences nor round phantoms.

    Args:
        picture: (X, Y), grey values.

    Example:
        >>> x, y = np.mgrid[:64, :64]
        >>> is_head_shaped((x - 32) ** 2 + (y - 30) ** 2 < 20**2), is_head_shaped(x // 8 % 2)
        (True, False)
    """
    values = np.asarray(picture, dtype=float)
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
