"""Diameters of an area on a slice, as RECIST and RANO measure them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

__all__ = ["in_plane_diameters"]

# From the middle of a pixel to those of its four edges.
EDGES = np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]])


def in_plane_diameters(area: np.ndarray, in_plane: np.ndarray) -> tuple[float, float]:
    r"""The longest diameter of an area, and its longest diameter perpendicular to that one.

    With H the convex hull of the middles of the edges of the area's pixels, in mm,

    .. math::
        d = \max_{p, q ∈ H} |p - q| = |p^* - q^*| \quad
        d_⊥ = \max\{|p - q| : p, q ∈ H,\; (p - q) ⊥ (p^* - q^*)\}

    d is the longest diameter of RECIST 1.1 (Eisenhauer et al. 2009), and d · d⊥ the product of RANO (Wen et al. 2010).
    Both are taken across inlets of the outline. ``feret_diameter_max`` of scikit-image's ``regionprops`` is d of the
    convex hull after that was drawn in pixels, and so up to about a pixel longer.

    Args:
        area: true within the area, which is one connected area.
        in_plane: from pixels to mm, such as ``np.diag([0.5, 0.5])``.

    Shape:
        - area: (X, Y)
        - in_plane: (2, 2)

    Raises:
        ValueError: the area is empty.

    Example:
        >>> d, across = in_plane_diameters(np.ones((8, 1)), np.diag([0.5, 0.5]))
        >>> round(d, 2), round(across, 2)  # from edge to edge
        (4.0, 0.5)
    """
    inside = np.asarray(area, dtype=bool)
    if not inside.any():
        raise ValueError("an empty area has no diameter.")
    border = inside & ~ndimage.binary_erosion(inside)
    pixels = np.argwhere(border).astype(float)
    points = (pixels[:, None] + EDGES).reshape(-1, 2) @ np.asarray(in_plane, dtype=float).T
    outline = points[ConvexHull(points).vertices]  # counterclockwise
    distances = squareform(pdist(outline))
    first, last = np.unravel_index(distances.argmax(), distances.shape)
    longest = float(distances[first, last])
    along = (outline[last] - outline[first]) / longest
    # One end first, so that one side of the outline runs to the other end, and the other side back.
    turned = np.roll(outline - outline[first], -first, axis=0) @ np.stack([along, [-along[1], along[0]]]).T
    end = (last - first) % len(turned)
    below, above = turned[: end + 1], np.concatenate([turned[end:], turned[:1]])[::-1]
    u = turned[:, 0]
    return longest, float((np.interp(u, *above.T) - np.interp(u, *below.T)).max())
