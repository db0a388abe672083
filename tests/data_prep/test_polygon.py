"""poly2mask against the masks that come with the real slices, and against closed forms."""

from __future__ import annotations

import csv
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
