"""The steps from a file to the input of a network, against the lists that the configs of version 0.1 spelled out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, RandFlipd
from PIL import Image
from slices import write_dicom, write_mat

from monai_kd.transforms import slice_preprocessing

NORMALISE = [
    {"_target_": "RepeatChanneld", "keys": "image", "repeats": 3},
    {
        **{"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True},
        **{"subtrahend": [0.485, 0.456, 0.406], "divisor": [0.229, 0.224, 0.225]},
    },
]
READ = {"_target_": "LoadImaged", "reader": "monai_kd.inference.SliceReader", "image_only": True}


def training(keys: list[str], size: int) -> list[dict[str, Any]]:
    """Of train.json; of both bundles of classification with the image alone."""
    label = [{"_target_": "AsDiscreted", "keys": "label", "threshold": 0.5}] if "label" in keys else []
    return [
        {**READ, "keys": keys, "constant": True, "ensure_channel_first": True},
        {"_target_": "monai_kd.transforms.UprightInPlaned", "keys": keys},
        {"_target_": "monai_kd.transforms.SqueezeSliced", "keys": keys},
        {"_target_": "monai_kd.transforms.ScaleSliceIntensityd", "keys": "image"},
        {
            **{"_target_": "monai_kd.transforms.ResizeInPlaned", "keys": keys, "in_plane_size": size},
            "mode": ["bilinear", "nearest"][: len(keys)],
        },
        *label,
        *NORMALISE,
        {"_target_": "EnsureTyped", "keys": keys, "dtype": "$torch.float32", "track_meta": False},
    ]


def evaluation(size: int) -> list[dict[str, Any]]:
    """Of evaluate.json: the mask is read after the prediction."""
    return [
        {**READ, "keys": "image", "constant": True, "ensure_channel_first": True},
        {"_target_": "monai_kd.transforms.UprightInPlaned", "keys": "image"},
        {"_target_": "monai_kd.transforms.SqueezeSliced", "keys": "image"},
        {"_target_": "monai_kd.transforms.ScaleSliceIntensityd", "keys": "image"},
        {
            **{"_target_": "monai_kd.transforms.ResizeInPlaned", "keys": "image"},
            **{"in_plane_size": size, "mode": "bilinear"},
        },
        *NORMALISE,
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
    ]


def inference(size: int, upright: bool = True) -> list[dict[str, Any]]:
    """Of inference.json: volumes stay whole, and slices of one value are refused."""
    return [
        {**READ, "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "monai_kd.transforms.UprightInPlaned", "_disabled_": not upright, "keys": "image"},
        {"_target_": "monai_kd.transforms.ScaleSliceIntensityd", "keys": "image"},
        {
            **{"_target_": "monai_kd.transforms.ResizeInPlaned", "keys": "image"},
            **{"in_plane_size": size, "mode": "bilinear"},
        },
        *NORMALISE,
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
    ]


def listed(transforms: list[dict[str, Any]]) -> Compose:
    parser = ConfigParser({"imports": ["$import torch"], "all": {"_target_": "Compose", "transforms": transforms}})
    return parser.get_parsed_content("all")


def same(found: Any, expected: Any) -> None:
    """Bit for bit, with the same kind, type and geometry."""
    assert type(found) is type(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(expected))
    if isinstance(expected, MetaTensor):
        assert torch.equal(found.affine, expected.affine)
        assert [each["class"] for each in found.applied_operations] == [e["class"] for e in expected.applied_operations]


TURNED = np.array([[0, -0.8, 0, 3], [0, 0, 5.0, 4], [-0.5, 0, 0, 5], [0, 0, 0, 1]])
SLICES = {
    "as stored": (np.diag([-0.5, -0.5, 6.0, 1.0]), (64, 64, 1)),
    "oblong": (np.diag([-0.5, -0.8, 6.0, 1.0]), (40, 70, 1)),
    "other directions": (np.diag([0.5, 0.5, 6.0, 1.0]), (50, 64, 1)),
    "sagittal": (TURNED, (33, 47, 1)),
    "two axes": (np.diag([0.5, 0.5, 6.0, 1.0]), (31, 64)),
}


def nifti(folder: Path, affine: np.ndarray, shape: tuple[int, ...], mask_value: int = 1) -> dict[str, Any]:
    random = np.random.default_rng(0)
    mask = np.zeros(shape, np.uint8)
    mask[10:20, 5:15] = mask_value
    for name, array in (("image", random.normal(300, 90, shape).astype(np.int16)), ("label", mask)):
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    return {**{name: str(folder / f"{name}.nii.gz") for name in ("image", "label")}, "class": 1}


@pytest.mark.parametrize(("affine", "shape"), SLICES.values(), ids=SLICES)
@pytest.mark.parametrize("size", [32, 64, 96])
class TestAgainstTheListsOfVersion01:
    def test_training_with_masks(self, tmp_path, affine, shape, size):
        item = nifti(tmp_path, affine, shape)
        expected = listed(training(["image", "label"], size))(dict(item))
        found = slice_preprocessing(size, label=True, single_slices=True, track_meta=False)(dict(item))
        for key in ("image", "label"):
            same(found[key], expected[key])
        assert found["image"].shape == (3, size, size)
        assert found["label"].unique().tolist() == [0, 1]

    def test_training_of_classes(self, tmp_path, affine, shape, size):
        item = nifti(tmp_path, affine, shape)
        expected = listed(training(["image"], size))(dict(item))
        found = slice_preprocessing(size, single_slices=True, track_meta=False)(dict(item))
        same(found["image"], expected["image"])
        assert found["label"] == item["label"]

    def test_evaluation(self, tmp_path, affine, shape, size):
        item = nifti(tmp_path, affine, shape)
        expected = listed(evaluation(size))(dict(item))
        same(slice_preprocessing(size, single_slices=True)(dict(item))["image"], expected["image"])

    @pytest.mark.parametrize("upright", [True, False])
    def test_inference(self, tmp_path, affine, shape, size, upright):
        item = nifti(tmp_path, affine, shape)
        expected = listed(inference(size, upright))(dict(item))
        same(slice_preprocessing(size, upright=upright)(dict(item))["image"], expected["image"])


def test_a_volume_as_in_the_inference_of_version_0_1(tmp_path):
    item = nifti(tmp_path, np.diag([0.5, 0.5, 3.0, 1.0]), (40, 48, 5))
    found, expected = slice_preprocessing(32)(dict(item))["image"], listed(inference(32))(dict(item))["image"]
    assert found.shape == (3, 32, 32, 5)
    same(found, expected)


@pytest.mark.parametrize("kind", ["png", "dcm", "mat"])
def test_other_files_as_in_version_0_1(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56)).astype(np.uint8)
    path = tmp_path / f"a.{kind}"
    if kind == "png":
        Image.fromarray(pixels).save(path)
    else:
        {"dcm": write_dicom, "mat": write_mat}[kind](path, pixels.astype(np.int16))
    same(slice_preprocessing(32)({"image": str(path)})["image"], listed(inference(32))({"image": str(path)})["image"])


def test_a_prediction_is_brought_back_as_in_version_0_1(tmp_path):
    item = nifti(tmp_path, TURNED, (33, 47, 1))
    back = []
    for transform in (slice_preprocessing(32), listed(inference(32))):
        data = transform(dict(item))
        data["pred"] = MetaTensor(data["image"][:1].clone())
        invert = Invertd("pred", transform, "image", nearest_interp=False)
        back.append(invert(data)["pred"])
    same(*back)
    assert back[0].shape == (1, 33, 47, 1)


class TestArguments:
    @pytest.fixture
    def item(self, tmp_path) -> dict[str, Any]:
        return nifti(tmp_path, np.diag([-0.5, -0.5, 6.0, 1.0]), (64, 64, 1), mask_value=255)

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_channels_and_normalisation(self, item, channels):
        plain = slice_preprocessing(64, 1, None, None, single_slices=True)(dict(item))["image"]
        assert plain.shape == (1, 64, 64)
        assert (float(plain.min()), float(plain.max())) == (0, 1)
        mean, std = [0.1, 0.2, 0.3][:channels], [0.5, 0.25, 2.0][:channels]
        found = slice_preprocessing(64, channels, mean, std, single_slices=True)(dict(item))["image"]
        for channel, subtracted, divided in zip(found, mean, std, strict=True):
            torch.testing.assert_close(channel, (plain[0] - subtracted) / divided)
        assert found.dtype == torch.float32

    @pytest.mark.parametrize(
        ("channels", "mean", "std"),
        [
            (3, None, [1.0] * 3),
            (3, [0.0] * 3, None),
            (1, [0.0] * 3, [1.0] * 3),
            (3, [0.0], [1.0]),
            (2, [0.0] * 2, [1.0]),
        ],
    )
    def test_numbers_must_be_as_many_as_channels(self, channels, mean, std):
        with pytest.raises(ValueError, match=f"mean and std must be {channels} numbers each, one for each channel"):
            slice_preprocessing(32, channels, mean, std)

    @pytest.mark.parametrize("size", [[96, 96, 96], 96.0, None])
    def test_sizes_of_patches_are_none_of_slices(self, size):
        with pytest.raises(ValueError, match="image_size must be the side of a square in pixels, got"):
            slice_preprocessing(size)

    @pytest.mark.parametrize("declared", [None, 255, {"255": 1}])
    def test_masks_are_zero_and_one(self, item, declared):
        found = slice_preprocessing(64, label=True, single_slices=True, mask_value=declared)(dict(item))["label"]
        assert found.unique().tolist() == [0, 1]

    def test_masks_of_other_values_are_refused(self, item):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            slice_preprocessing(64, label=True, single_slices=True, mask_value=1)(dict(item))
        assert "declares 0 and 1" in str(caught.value.__cause__ or caught.value)

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_of_several_classes_the_mask_has_the_number_of_its_own(self, item, number):
        made = slice_preprocessing(64, label=True, single_slices=True, multiclass=True)({**item, "class": number})
        assert made["label"].unique().tolist() == [0, 1 + number]

    def test_random_transforms_follow(self, item):
        flip = RandFlipd(["image", "label"], prob=1.0, spatial_axis=0)
        options = {"label": True, "single_slices": True, "track_meta": False}
        plain = slice_preprocessing(48, **options)
        flipped = slice_preprocessing(48, random=[flip], **options)
        assert len(flipped.transforms) == len(plain.transforms) + 1
        one, other = plain(dict(item)), flipped(dict(item))
        for key in ("image", "label"):
            assert torch.equal(torch.as_tensor(other[key]), torch.as_tensor(one[key]).flip(1))

    @pytest.mark.parametrize(
        ("options", "accepted"),
        [({}, False), ({"single_slices": True}, True), ({"constant": True}, True)]
        + [({"single_slices": True, "constant": False}, False)],
    )
    def test_images_of_one_value(self, tmp_path, options, accepted):
        """A listed slice may be black; a file that somebody wants examined is likely broken."""
        nib.save(nib.Nifti1Image(np.full((32, 32, 1), 7, np.int16), np.eye(4)), tmp_path / "flat.nii.gz")
        transform, item = slice_preprocessing(32, **options), {"image": str(tmp_path / "flat.nii.gz")}
        if accepted:
            assert transform(item)["image"].std(dim=(1, 2)).max() == 0
        else:
            with pytest.raises((ValueError, RuntimeError)):
                transform(item)

    def test_more_pixels_than_allowed_are_refused_by_the_header(self, item):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            slice_preprocessing(32, max_pixels=64 * 64 - 1)(dict(item))
        assert "4,095" in str(caught.value.__cause__ or caught.value) or "4095" in str(caught.value.__cause__)
        slice_preprocessing(32, max_pixels=64 * 64)(dict(item))
