"""poly2mask against the masks that come with the real slices, its rule pixel by pixel, and closed forms."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from data_prep.polygon import poly2mask


def test_all_real_masks_bit_for_bit(figshare: Path) -> None:
    identical, dice, several_parts = 0, [], 0
    with open(figshare / "borders.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        border = np.array(row["tumorBorder"].split(), float)
        stored = np.asarray(Image.open(figshare / "masks" / f"{row['id']}.png")).astype(bool)
        made = poly2mask(border[0::2], border[1::2], stored.shape)
        identical += np.array_equal(made, stored)
        dice.append(2 * np.sum(made & stored) / (made.sum() + stored.sum()))
        several_parts += row["id"] in ("2651", "2758") and ndimage.label(stored)[1] > 1
    assert np.mean(dice) >= 0.999
    assert identical == len(rows) == 2454
    assert several_parts == 2


def _rounded(value: float) -> int:
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def _side(x1: int, y1: int, x2: int, y2: int) -> list[tuple[int, int]]:
    """MATLAB's `intline`: the sub-pixels of a side, computed from its left or its top end."""
    if abs(x2 - x1) < abs(y2 - y1):
        return [(x, y) for y, x in _side(y1, x1, y2, x2)]
    if x1 > x2:
        return _side(x2, y2, x1, y1)[::-1]
    slope = (y2 - y1) / (x2 - x1) if x2 > x1 else 0.0
    return [(x, _rounded(y1 + slope * (x - x1))) for x in range(x1, x2 + 1)]


def _one_by_one(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The rule pixel by pixel: an odd number of steps crosses the middle sub-column at or above the middle."""
    corners = [(_rounded(5 * (a - 0.5) + 1), _rounded(5 * (b - 0.5) + 1)) for a, b in zip(x, y, strict=True)]
    path = [
        point for one, other in zip(corners, corners[1:] + corners[:1], strict=True) for point in _side(*one, *other)
    ]
    steps = [(min(a, c), min(b, d)) for (a, b), (c, d) in itertools.pairwise(path) if a != c]
    mask = np.zeros(shape, bool)
    for row, column in np.ndindex(shape):
        # Pixel n, counted from 1, has the sub-pixels 5n−4 to 5n; the middle one is 5n−2.
        crossed = sum(a == 5 * (column + 1) - 2 and b <= 5 * (row + 1) - 2 for a, b in steps)
        mask[row, column] = crossed % 2
    return mask


@pytest.mark.parametrize(
    ("low", "high", "grid"),
    [
        (0.5, 9.5, 0.1),  # inside; tenths of a pixel are halves of a sub-pixel
        (-4, 15, 0.1),  # over all four borders
        (2.6, 3.4, 0.2),  # sides of a single sub-pixel
        (-4, 15, 1e-6),  # anywhere
    ],
)
def test_equals_the_rule_pixel_by_pixel(low: float, high: float, grid: float) -> None:
    random, filled = np.random.default_rng(0), 0
    for _ in range(60):
        x, y = grid * np.round(random.uniform(low, high, (2, random.integers(1, 9))) / grid)
        mask = poly2mask(x, y, (9, 11))
        assert mask.dtype == bool
        assert np.array_equal(mask, _one_by_one(x, y, (9, 11))), (x, y)
        filled += mask.any()
    assert filled > 10


def test_rising_side_of_one_sub_pixel() -> None:
    # Half a sub-pixel is rounded away from zero, so that such a side has its lower end in both columns.
    x = np.array([3.5, 3.5, 3.5, 2.3, 2.7, 3.5, 3.1, 2.9])
    y = np.array([3.1, 2.3, 3.3, 3.3, 2.7, 2.3, 2.9, 3.1])
    assert np.array_equal(poly2mask(x, y, (6, 6)), _one_by_one(x, y, (6, 6)))


def test_x_is_the_column_and_counting_starts_at_one() -> None:
    # The box from the left edge of column 3 to the right edge of column 5, and of rows 7 to 8.
    mask = poly2mask([2.5, 5.5, 5.5, 2.5], [6.5, 6.5, 8.5, 8.5], (10, 20))
    expected = np.zeros((10, 20), bool)
    expected[6:8, 2:5] = True
    assert np.array_equal(mask, expected)


def test_area_is_the_polygons() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 30))
        radius = rng.uniform(40, 60, 30)
        x, y = 100 + radius * np.cos(angle), 90 + radius * np.sin(angle)
        shoelace = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
        length = np.hypot(np.diff(x, append=x[0]), np.diff(y, append=y[0])).sum()
        assert abs(poly2mask(x, y, (200, 200)).sum() - shoelace) < 0.1 * length


@pytest.mark.parametrize("start", [0, 3])
def test_direction_and_start_do_not_matter(start: int) -> None:
    x, y = np.array([3.2, 17.9, 25.1, 12.4, 5.0]), np.array([4.1, 2.2, 15.7, 22.3, 18.8])
    mask = poly2mask(x, y, (30, 30))
    assert mask.sum() > 200
    assert np.array_equal(mask, poly2mask(np.roll(x, start)[::-1], np.roll(y, start)[::-1], (30, 30)))
    closed = np.append(x, x[0]), np.append(y, y[0])
    assert np.array_equal(mask, poly2mask(*closed, (30, 30)))


def test_several_parts_and_overlaps_cancel() -> None:
    # Two boxes joined by a line there and back: two parts. The second pass over a box takes it away again.
    box = [(2.5, 2.5), (5.5, 2.5), (5.5, 5.5), (2.5, 5.5), (2.5, 2.5)]
    far = [(x + 10, y) for x, y in box]
    mask = _mask([*box, *far, box[0]])
    assert ndimage.label(mask)[1] == 2
    assert mask.sum() == 18
    assert _mask([*box, *box]).sum() == 0


def _mask(points: list[tuple[float, float]]) -> np.ndarray:
    x, y = np.array(points).T
    return poly2mask(x, y, (12, 20))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [([1, 2], [1], "one length"), ([], [], "at least one vertex"), ([1, 2, np.nan], [1, 2, 3], "finite")],
)
def test_bad_vertices(x: list[float], y: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        poly2mask(x, y, (5, 5))
