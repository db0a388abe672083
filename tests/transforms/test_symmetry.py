import numpy as np
import pytest
import torch
from heads import head, real_slices, tumour
from scipy import ndimage

from monai_kd.transforms import Midline, find_midline

# By eye, of the Figshare data.
AXIAL_OR_CORONAL = [54, 100, 189, 252, 357, 374, 407, 746, 786, 987, 1157, 1376, 1472, 1524, 2266, 2406, 2615]
SAGITTAL = [614, 841, 896, 915, 1233, 1240, 1272, 1646, 2745, 2840, 2976, 3003, 3010, 3029]


@pytest.mark.parametrize(("tilt", "shift"), [(0, 0), (8, 0), (-12, 0), (0, 9), (0, -11), (6, 7)])
def test_turned_and_shifted_head(tilt, shift):
    found = find_midline(head(tilt=tilt, shift=shift))
    # scipy turns by `tilt` from the first axis towards the second; the line then leans against it.
    assert np.degrees(found.tilt) == pytest.approx(tilt, abs=2) or np.degrees(found.tilt) == pytest.approx(-tilt, abs=2)
    assert found.offset * 64 * np.cos(found.tilt) == pytest.approx(shift * np.cos(found.tilt) ** 2, abs=1.5)
    assert found.similarity > 0.9
    turned = head(tilt=tilt, shift=shift)
    assert (found.reflect(turned) - turned).abs().mean() < 0.03 < turned.mean() / 5


def test_tumour_is_left_out():
    image, mask = head(), tumour()
    image[mask > 0] = 3
    assert find_midline(image, mask).similarity > 0.75 > find_midline(image).similarity + 0.2


def test_reflection_is_that_of_numpy():
    image = torch.rand(2, 16, 12)
    assert torch.allclose(Midline(0.0, 0.0).reflect(image), image.flip(1), atol=1e-5)
    moved = Midline(0.0, 4 / 16).reflect(image, "nearest")  # in a line 2 of 8 pixels from the middle
    assert torch.equal(moved[:, 4:], image.flip(1)[:, :12])


@pytest.mark.parametrize("line", [Midline(0.0, 0.0), Midline(0.2, 0.1), Midline(-0.3, -0.2)])
def test_distance_changes_its_sign_with_the_reflection(line):
    distance = line.distance((64, 64))
    middle = ndimage.binary_erosion(np.ones((64, 64)), iterations=24)
    assert torch.allclose(line.reflect(distance[None])[0][middle], -distance[middle], atol=1e-3)


def test_views_of_real_slices():
    symmetric = [find_midline(*each).similarity for each in real_slices(AXIAL_OR_CORONAL)]
    sagittal = [find_midline(*each).similarity for each in real_slices(SAGITTAL)]
    assert min(symmetric) > 0.6 > max(sagittal)
