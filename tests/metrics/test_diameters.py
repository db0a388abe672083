"""Diameters of shapes whose diameters are known."""

import numpy as np
import pytest
from skimage.measure import label, regionprops

from monai_kd.metrics import in_plane_diameters

# semi-axes in mm, angle of the first one, spacing
ELLIPSES = [
    (30.0, 15.0, 0.0, (0.5, 0.5)),
    (30.0, 15.0, 0.4, (0.5, 0.5)),
    (25.0, 25.0, 0.0, (0.5, 0.8)),
    (25.0, 8.0, 1.1, (1.0, 0.7)),
    (12.0, 4.0, 2.5, (0.3, 0.9)),
]


@pytest.mark.parametrize(("a", "b", "angle", "spacing"), ELLIPSES)
def test_ellipse(a, b, angle, spacing):
    x, y = np.mgrid[:201, :201]
    x, y = (x - 100) * spacing[0], (y - 100) * spacing[1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    longest, perpendicular = in_plane_diameters((along / a) ** 2 + (across / b) ** 2 <= 1, np.diag(spacing))
    assert longest == pytest.approx(2 * a, abs=max(spacing))
    assert perpendicular == pytest.approx(2 * b, abs=max(spacing))


def test_rectangle_has_its_diagonal():
    # 21 × 9 mm between the outer edges' middles; the chord across the diagonal of a rectangle ends on its long sides.
    longest, perpendicular = in_plane_diameters(np.ones((40, 16)), np.diag([0.5, 0.5]))
    assert longest == pytest.approx(np.hypot(20, 8), abs=0.5)
    assert perpendicular == pytest.approx(8 * np.hypot(20, 8) / 20, abs=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_of_any_shape_about_what_scikit_image_says(seed):
    areas = label(np.random.default_rng(seed).random((40, 40)) < 0.45, connectivity=2)
    for region in regionprops(areas, spacing=(0.5, 0.9)):
        longest, perpendicular = in_plane_diameters(region.image, np.diag([0.5, 0.9]))
        assert region.feret_diameter_max - 1.5 * 0.9 <= longest <= region.feret_diameter_max + 1e-9
        assert 0 < perpendicular <= longest + 1e-9


def test_a_turn_of_the_axes_changes_nothing():
    area = np.random.default_rng(0).random((30, 30)) < 0.8
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    assert in_plane_diameters(area, turn @ np.diag([0.5, 0.9])) == pytest.approx(
        in_plane_diameters(area, np.diag([0.5, 0.9]))
    )


def test_an_inlet_is_measured_across():
    area = np.zeros((20, 20), bool)
    area[2:18, 2:18] = True
    notched = area.copy()
    notched[8:12, 5:18] = False
    assert in_plane_diameters(notched, np.eye(2)) == in_plane_diameters(area, np.eye(2))


def test_an_empty_area_is_an_error():
    with pytest.raises(ValueError, match="empty area"):
        in_plane_diameters(np.zeros((4, 4)), np.eye(2))
