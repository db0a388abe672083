"""Transforms in the plane: slices and volumes treated alike, and undone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd

from monai_kd.transforms import (
    ResizeInPlane,
    ResizeInPlaned,
    ScaleSliceIntensity,
    ScaleSliceIntensityd,
    SqueezeSliced,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SIZES = [
    pytest.param((6, 10), (8, 4), id="one-up-one-down"),
    pytest.param((16, 16), (8, 8), id="half"),
    pytest.param((5, 7), (11, 13), id="odd"),
    pytest.param((6, 10), (6, 10), id="unchanged"),
]


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_slice_equals_interpolate(old, new, mode):
    image = noise(2, *old)  # (C, H, W)
    found = ResizeInPlane(new, mode=mode)(image)
    options = {} if mode == "nearest" else {"align_corners": False}
    torch.testing.assert_close(found.as_tensor(), F.interpolate(image[None], size=new, mode=mode, **options)[0])


@pytest.mark.parametrize(("old", "new"), SIZES)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("depth", [1, 5])
def test_volume_equals_its_slices(old, new, mode, depth):
    volume = noise(2, *old, depth)  # (C, H, W, D)
    resize = ResizeInPlane(new, mode=mode)
    found = resize(volume)
    assert found.shape == (2, *new, depth)
    for i in range(depth):
        torch.testing.assert_close(found[..., i].as_tensor(), resize(volume[..., i]).as_tensor())


def test_one_number_is_a_square():
    assert ResizeInPlane(8)(noise(1, 4, 6)).shape == (1, 8, 8)


def test_nearest_makes_no_new_labels():
    label = torch.randint(0, 4, (1, 9, 7, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert set(ResizeInPlane((20, 5), mode="nearest")(label).unique().tolist()) <= {0, 1, 2, 3}


def test_affine_follows_the_plane_and_keeps_the_depth():
    image = MetaTensor(noise(1, 8, 4, 3), affine=torch.diag(torch.tensor([0.5, 0.5, 6.0, 1.0])))
    found = ResizeInPlane((4, 8))(image)
    torch.testing.assert_close(found.pixdim.float(), torch.tensor([1.0, 0.25, 6.0]))


@pytest.mark.parametrize("shape", [(1, 10, 6), (1, 10, 6, 3)])
@pytest.mark.parametrize("size", [(4, 16), (32, 32)])
def test_inverse_restores_size_and_geometry(shape, size):
    affine = torch.diag(torch.tensor([0.5, 0.7, 6.0, 1.0], dtype=torch.float64))
    image = MetaTensor(noise(*shape), affine=affine)
    resize = ResizeInPlane(size)
    back = resize.inverse(resize(image))
    assert back.shape == shape
    torch.testing.assert_close(back.affine, affine)
    assert back.applied_operations == []


def test_inverse_keeps_the_content_in_place():
    # Bilinear up and down again leaves a linear ramp as it is, away from the border.
    ramp = MetaTensor((torch.arange(12.0)[:, None] * 3 + torch.arange(8.0))[None])
    resize = ResizeInPlane((24, 16))
    torch.testing.assert_close(resize.inverse(resize(ramp))[:, 1:-1, 1:-1].as_tensor(), ramp[:, 1:-1, 1:-1].as_tensor())


@pytest.mark.parametrize("shape", [(1, 10, 6), (1, 10, 6, 3)])  # (C, H, W) and (C, H, W, D)
@pytest.mark.parametrize("nearest", [True, False])
def test_invertd_takes_a_prediction_back(shape, nearest):
    pre = Compose([ResizeInPlaned("image", (16, 16)), Flipd("image", spatial_axis=0)])
    data = pre({"image": MetaTensor(noise(*shape), affine=torch.diag(torch.tensor([0.5, 0.5, 6.0, 1.0])))})
    prediction = MetaTensor(torch.zeros(1, 16, 16, *shape[3:]))
    prediction[:, :8] = 1  # what the network sees at the top lies at the bottom of the file
    data["pred"] = prediction
    post = Invertd("pred", transform=pre, orig_keys="image", nearest_interp=nearest, to_tensor=True)
    found = post(data)["pred"]
    assert found.shape == shape
    expected = torch.zeros(shape)
    expected[:, 5:] = 1
    torch.testing.assert_close(found.as_tensor(), expected, atol=0 if nearest else 0.5, rtol=0)


def test_modes_for_each_key():
    data = {"image": noise(1, 4, 4), "label": (noise(1, 4, 4) > 0).float()}
    resize = ResizeInPlaned(["image", "label"], (7, 7), mode=["bilinear", "nearest"])
    found = resize(data)
    assert set(found["label"].unique().tolist()) == {0.0, 1.0}
    assert len(found["image"].unique()) > 16
    back = resize.inverse(found)
    assert back["image"].shape == back["label"].shape == (1, 4, 4)
    assert data["image"].shape == (1, 4, 4)  # the dictionary given is left alone


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode must be 'bilinear' or 'nearest', got 'bicubic'"):
        ResizeInPlane((4, 4), mode="bicubic")


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 2, 2)])
def test_other_numbers_of_axes(shape):
    with pytest.raises(ValueError, match=r"expected \(C, H, W\) or \(C, H, W, D\), got \("):
        ResizeInPlane((4, 4))(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16, torch.uint8])
def test_every_slice_is_scaled_by_itself(dtype):
    volume = (40 * noise(2, 5, 4, 3).abs() * torch.tensor([1.0, 0.1, 2.0])).to(dtype)  # (C, H, W, D)
    found = ScaleSliceIntensity()(volume)
    assert found.dtype is torch.float32
    for i in range(3):
        part = volume[..., i].numpy().astype(np.float64)
        np.testing.assert_allclose(found[..., i].numpy(), (part - part.min()) / np.ptp(part), rtol=1e-5, atol=1e-6)


def test_slice_of_a_volume_equals_the_slice_alone():
    # Training sees slices, inference volumes.
    volume = noise(1, 5, 4, 3)
    scaled = ScaleSliceIntensity()(volume)
    for i in range(3):
        assert torch.equal(scaled[..., i].as_tensor(), ScaleSliceIntensity()(volume[..., i]).as_tensor())


@pytest.mark.parametrize("value", [0.0, -7.0, 1e6])
def test_constant_slice_becomes_zero(value):
    volume = noise(1, 4, 4, 2)
    volume[..., 1] = value
    found = ScaleSliceIntensityd("image")({"image": volume})["image"]
    assert not found[..., 1].any()
    assert found[..., 0].max() == 1
    assert found.isfinite().all()


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 1)])
def test_squeeze(shape):
    image = noise(*shape)
    found = SqueezeSliced("image")({"image": image})["image"]
    assert torch.equal(found, image.reshape(2, 4, 5))


def test_squeeze_takes_the_slice_that_is_named():
    image = noise(2, 4, 5, 3)
    found = SqueezeSliced("image")({"image": image, "slice": 1})
    assert torch.equal(found["image"], image[..., 1])


@pytest.mark.parametrize("shape", [(2, 4, 5, 2), (4, 5)])
def test_squeeze_more_than_one_slice(shape):
    with pytest.raises(ValueError, match=r"'image' must be one slice, \(C, H, W\) or \(C, H, W, 1\), got \("):
        SqueezeSliced("image")({"image": noise(*shape)})


@pytest.mark.parametrize("transform", [ResizeInPlaned, ScaleSliceIntensityd, SqueezeSliced])
def test_missing_keys(transform):
    options = {"in_plane_size": 4} if transform is ResizeInPlaned else {}
    with pytest.raises(KeyError, match="label"):
        transform("label", **options)({"image": noise(1, 4, 4)})
    allowed = transform(["image", "label"], allow_missing_keys=True, **options)
    assert set(allowed({"image": noise(1, 4, 4)})) == {"image"}
