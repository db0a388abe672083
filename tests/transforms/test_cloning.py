import numpy as np
import pytest
import torch
from heads import head, tumour
from scipy import ndimage

from monai_kd.transforms.cloning import clone, dilate, similar_places


@pytest.mark.parametrize("pixels", [1, 2, 5])
def test_dilation_is_that_of_scipy(pixels):
    mask = torch.rand(40, 30, generator=torch.Generator().manual_seed(0)) > 0.97
    expected = ndimage.binary_dilation(mask.numpy(), np.ones((2 * pixels + 1,) * 2))
    assert np.array_equal(dilate(mask, pixels).numpy(), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_difference_in_brightness_leaves_no_seam(channels):
    image, region = head().repeat(channels, 1, 1), tumour()[0] > 0
    rows = torch.arange(128.0)[:, None] / 128
    # A source that is brighter, more so on one side: shaded, it is nearly the image.
    cloned = clone(image, image + 0.2 + 0.1 * rows, region)
    assert (cloned - image).abs().max() < 0.02
    assert torch.equal(cloned[:, ~dilate(region, 3)], image[:, ~dilate(region, 3)])


def test_texture_is_that_of_the_source_and_an_empty_region_changes_nothing():
    image, source, region = head(), head(seed=1), tumour()[0] > 0
    cloned = clone(image, source, region)
    inside = torch.stack([cloned[0][region], source[0][region], image[0][region]])
    correlations = torch.corrcoef(inside)[0]
    assert correlations[1] > 0.7 > correlations[2] + 0.2
    assert torch.equal(clone(image, source, torch.zeros_like(region)), image)


def test_a_copy_of_the_surroundings_is_found():
    image = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    image[40:60, 34:54] = image[4:24, 4:24]
    region = torch.zeros(64, 64, dtype=torch.bool)
    region[10:18, 10:18] = True
    assert similar_places(image, region, region)[0] == (36, 30)
    forbidden = region.clone()
    forbidden[45:50, 40:45] = True
    assert (36, 30) not in similar_places(image, region, forbidden)


def test_no_place_is_free():
    image, region = head()[0], tumour()[0] > 0
    assert similar_places(image, region, torch.ones_like(region)) == []
