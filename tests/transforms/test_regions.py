"""Masks of regions from the values of label files."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ConvertToMultiChannelBasedOnBratsClasses

from monai_kd.transforms import RegionMasks, RegionMasksd

BRATS = {"tumour core": [1, 4], "whole tumour": [1, 2, 4], "enhancing tumour": [4]}


def label() -> torch.Tensor:
    values = torch.tensor([0, 1, 2, 4])
    return values[torch.randint(4, (1, 5, 4, 3), generator=torch.Generator().manual_seed(0))]


def test_regions_of_brats_are_those_of_monai():
    expected = ConvertToMultiChannelBasedOnBratsClasses()(label())
    assert torch.equal(RegionMasks(BRATS)(label()), expected.to(torch.uint8))


def test_some_of_them_in_another_order():
    found = RegionMasks(BRATS, ["enhancing tumour", "tumour core"])(label())
    assert torch.equal(found, RegionMasks(BRATS)(label())[[2, 0]])


def test_regions_that_exclude_each_other_become_class_numbers():
    found = RegionMasks({"edema": [2], "core": [1, 4]}, exclusive=True)(label())
    expected = torch.tensor([0, 2, 1, 0, 2], dtype=torch.uint8)[label()]
    assert torch.equal(found, expected)


def test_geometry_stays():
    affine = torch.diag(torch.tensor([-1.0, 2, 3, 1]))
    found = RegionMasksd("label", BRATS)({"label": MetaTensor(label(), affine=affine, meta={"filename_or_obj": "a"})})
    assert torch.equal(found["label"].affine, affine.double())
    assert found["label"].meta["filename_or_obj"] == "a"


@pytest.mark.parametrize("value", [3, 255, 0.5, -1, float("nan")])
def test_a_value_of_no_region_is_refused(value):
    image = MetaTensor(torch.tensor([[[0.0, 1, value]]]), meta={"filename_or_obj": "p/seg.nii.gz"})
    with pytest.raises(ValueError, match=r"p/seg\.nii\.gz: the label holds .* declare 0, 1, 2, 4"):
        RegionMasks(BRATS)(image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regions": {}}, "none"),
        ({"regions": BRATS, "names": ["edema"]}, "there are no regions edema; known are: tumour core, whole tumour"),
        ({"regions": BRATS, "names": []}, "there are no regions to return; known are: "),
        ({"regions": BRATS, "exclusive": True}, "overlap, so that they can't be classes of a softmax"),
    ],
)
def test_regions_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        RegionMasks(**arguments)


def test_a_label_of_several_channels_is_refused():
    with pytest.raises(ValueError, match="a label: it has 2 channels"):
        RegionMasks(BRATS)(torch.zeros(2, 4, 4))
