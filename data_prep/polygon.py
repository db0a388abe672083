"""Filled polygons by the rule of MATLAB's `poly2mask`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

GRID = 5  # sub-pixels per pixel side; poly2mask's rule is defined on this grid


def poly2mask(x: ArrayLike, y: ArrayLike, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask of the pixels inside a polygon, pixel for pixel as MATLAB's `poly2mask(x, y, rows, cols)`.

    Vertices are moved to the nearest crossing of a grid with 5×5 sub-pixels per pixel, neighbouring vertices are joined
    by a line of sub-pixels, and a pixel belongs to the polygon when an odd number of line steps passes over its centre
    column above it. Overlapping parts therefore cancel, as in MATLAB; self-touching borders may give several parts.

    Args:
        x: columns of the vertices, (N,), in pixels, counted from 1: the centre of the first column is 1.0.
        y: rows of the vertices, (N,), likewise. The polygon is closed if it is not.
        shape: (rows, cols) of the mask.

    Returns:
        Boolean array (rows, cols).

    Raises:
        ValueError: x and y are not of one length, are empty, or hold NaN or infinity.

    >>> poly2mask([1, 4, 4, 1], [1, 1, 3, 3], (4, 5)).astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 0, 0, 0]])
    """
    xs, ys = np.asarray(x, float).ravel(), np.asarray(y, float).ravel()
    if xs.size != ys.size or xs.size == 0:
        raise ValueError(f"x and y must have one length and at least one vertex, got {xs.size} and {ys.size}")
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise ValueError("x and y must be finite")
    rows, cols = shape
    line_x, line_y = _outline(*(_round(GRID * (np.append(v, v[0]) - 0.5) + 1) for v in (xs, ys)))

    # A step between neighbouring columns toggles everything below it. Leftward and rightward steps between the same two
    # columns must count alike, so both are filed under the smaller column and the smaller row.
    step = np.diff(line_x)
    moved = np.flatnonzero(step)
    column = line_x[moved] - (step[moved] < 0)
    row = np.minimum(line_y[moved], line_y[moved + 1])

    # Only steps in a pixel's middle sub-column matter.
    half = (GRID - 1) // 2
    column, off_centre = np.divmod(column + half, GRID)
    row = -(-(row + half) // GRID)
    used = (off_centre == 0) & (column >= 1) & (column <= cols) & (row <= rows)
    mask = np.zeros((rows, cols), bool)
    if used.any():
        column, row = column[used] - 1, np.maximum(row[used], 1) - 1
        # Columns without a step stay empty, so only those between the first and the last are scanned.
        first, last = column.min(), column.max() + 1
        toggles = np.zeros((rows, last - first), np.uint8)
        np.add.at(toggles, (row, column - first), 1)
        mask[:, first:last] = np.bitwise_xor.accumulate(toggles & 1, axis=0)
    return mask


def _round(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Nearest integers with halves away from zero (numpy rounds halves to even, MATLAB does not)."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values).astype(np.int64)


def _outline(x: NDArray[np.int64], y: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sub-pixels of all sides, one after the other, each side from its first vertex to its last."""
    dx, dy = np.diff(x), np.diff(y)
    flat = np.abs(dx) >= np.abs(dy)
    length = np.where(flat, np.abs(dx), np.abs(dy))
    # A side is computed from its left (flat) or top (steep) end, so that rounding does not depend on the direction of
    # travel, and read backwards where the polygon runs the other way.
    backwards = np.where(flat, dx, dy) < 0
    start_x, start_y = np.where(backwards, x[1:], x[:-1]), np.where(backwards, y[1:], y[:-1])
    sign = np.where(backwards, -1, 1)
    side = np.repeat(np.arange(length.size), length + 1)
    k = np.arange(side.size) - np.repeat(np.cumsum(length + 1) - (length + 1), length + 1)
    k = np.where(backwards[side], length[side] - k, k)
    slope = sign * np.where(flat, dy, dx) / np.maximum(length, 1)
    across = _round(np.where(flat, start_y, start_x)[side] + slope[side] * k)
    along = np.where(flat, start_x, start_y)[side] + k
    return np.where(flat[side], along, across), np.where(flat[side], across, along)
