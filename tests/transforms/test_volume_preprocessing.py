"""From files to the input of a network: channels, regions, axes, voxels, values and patches."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Invertd
from volumes import AFFINE, MODALITIES, REGIONS, nested, write_volumes

from monai_kd.data import load_volumes
from monai_kd.transforms import volume_preprocessing

SIZE = (20, 18, 14)


@pytest.fixture(scope="module")
def entry(tmp_path_factory) -> dict:
    folder = write_volumes(tmp_path_factory.mktemp("volumes"), count=1, size=SIZE, folds=1)
    return load_volumes(folder, None, "all")[0]


def normalised(channel: np.ndarray) -> np.ndarray:
    inside = channel != 0
    return np.where(inside, (channel - channel[inside].mean()) / channel[inside].std(), 0)


def test_whole_volume(entry):
    image, label = nested(SIZE)
    found = volume_preprocessing(4, regions=REGIONS)(entry)
    # Stored from right to left and from front to back, as RAS it is turned.
    expected = np.stack([normalised(channel.astype(float)) for channel in image])[:, ::-1, ::-1]
    np.testing.assert_allclose(found["image"], expected, atol=1e-4)
    turned = label[::-1, ::-1]
    np.testing.assert_array_equal(found["label"], np.stack([np.isin(turned, values) for values in REGIONS.values()]))
    assert {found[key].dtype for key in ("image", "label")} == {torch.float32}


def test_one_file_for_all_channels_is_the_same(entry, tmp_path):
    folder = write_volumes(tmp_path / "stacked", count=1, size=SIZE, folds=1, stacked=True)
    (other,) = load_volumes(folder, None, "all")
    steps = volume_preprocessing(4, regions=REGIONS)
    one, two = steps(entry), steps(other)
    assert all(torch.equal(one[key], two[key]) for key in ("image", "label"))


def test_a_volume_listed_without_a_tumour_has_none_in_its_label(entry, tmp_path):
    steps = volume_preprocessing(4, regions=REGIONS)
    with pytest.raises(RuntimeError) as caught:
        steps({**entry, "tumour": False})
    assert "seg.nii.gz: the mask is not empty" in str(caught.value.__cause__)
    nib.save(nib.Nifti1Image(np.zeros(SIZE, np.uint8), AFFINE), tmp_path / "seg.nii.gz")
    assert not steps({**entry, "tumour": False, "label": str(tmp_path / "seg.nii.gz")})["label"].any()


def test_resampled_to_a_spacing(entry):
    found = volume_preprocessing(4, regions=REGIONS, spacing=(1.0, 1.0, 1.0))(entry)
    # From the middle of the first voxel to that of the last one: 13 steps of 2 mm.
    assert found["image"].shape[1:] == found["label"].shape[1:] == (20, 18, 27)
    assert set(found["label"].unique().tolist()) == {0, 1}


def test_patches_are_random_and_of_one_place(entry):
    steps = volume_preprocessing(4, regions=REGIONS, patch_size=(8, 8, 8), patches=6, foreground_share=1.0)
    whole = volume_preprocessing(4, regions=REGIONS)(entry)
    steps.set_random_state(0)
    found = steps(entry)
    assert [tuple(each["image"].shape) for each in found] == [(4, 8, 8, 8)] * 6
    # The middle of each is in a region: that is where the label of the widest one is.
    assert all(each["label"][1, 4, 4, 4] == 1 for each in found)
    windows = whole["image"].as_tensor().unfold(1, 8, 1).unfold(2, 8, 1).unfold(3, 8, 1)
    labels = whole["label"].as_tensor().unfold(1, 8, 1).unfold(2, 8, 1).unfold(3, 8, 1)
    places = []
    for each in found:
        distance = (windows - each["image"].as_tensor()[:, None, None, None]).abs().amax(dim=(0, 4, 5, 6))
        place = tuple(torch.nonzero(distance == 0)[0].tolist())
        assert torch.equal(labels[(slice(None), *place)], each["label"].as_tensor())
        places.append(place)
    assert len(set(places)) > 1
    steps.set_random_state(0)
    assert all(torch.equal(one["image"], two["image"]) for one, two in zip(found, steps(entry), strict=True))


def test_patches_are_found_in_the_first_region_too(tmp_path):
    """MONAI takes the first of several masks for the background."""
    image, label = nested(SIZE)
    label[:] = 0
    label[10, 9, 7] = 1
    paths = [str(tmp_path / f"{name}.nii.gz") for name in (*MODALITIES, "seg")]
    for path, array in zip(paths, [*image, label], strict=True):
        nib.save(nib.Nifti1Image(array, AFFINE), path)
    steps = volume_preprocessing(
        4, regions={"first": [1], "second": [2]}, patch_size=(4, 4, 4), patches=8, foreground_share=1.0
    )
    found = steps({"image": paths[:4], "label": paths[4]})
    assert all(each["label"][0, 2, 2, 2] == 1 for each in found)


def test_small_volumes_are_padded_to_a_patch(entry):
    (found,) = volume_preprocessing(4, regions=REGIONS, patch_size=(24, 24, 24))(entry)
    assert found["image"].shape == (4, 24, 24, 24)
    whole = volume_preprocessing(4, regions=REGIONS)(entry)
    assert found["label"].sum() == whole["label"].sum()


@pytest.mark.parametrize("spacing", [None, (1.0, 1.0, 1.0)])
def test_masks_go_back_to_the_voxels_of_the_file(entry, spacing):
    steps = volume_preprocessing(4, regions=REGIONS, label_as_in_file=True, spacing=spacing)
    other = volume_preprocessing(4, regions=REGIONS, spacing=spacing)
    data = steps(entry)
    _, label = nested(SIZE)
    expected = np.stack([np.isin(label, values) for values in REGIONS.values()])
    np.testing.assert_array_equal(data["label"], expected)
    data["pred"] = other(entry)["label"]
    back = Invertd("pred", steps, orig_keys="image", nearest_interp=spacing is None)(data)["pred"]
    assert back.shape == expected.shape
    if spacing is None:
        np.testing.assert_array_equal(back, expected)
    assert np.mean((np.asarray(back) > 0.5) == expected) > 0.97


def test_slices_of_several_channels(tmp_path):
    image, label = nested((20, 18), 3)
    affine = np.diag([1.0, -1.0, 1, 1])  # columns from left to right: a viewer shows them turned round
    paths = [str(tmp_path / f"{name}.nii.gz") for name in (*MODALITIES, "seg")]
    for path, array in zip(paths, [*image, label], strict=True):
        nib.save(nib.Nifti1Image(array[..., None], affine), path)
    steps = volume_preprocessing(4, 2, REGIONS, patch_size=(8, 8), patches=2)
    found = steps({"image": paths[:4], "label": paths[4]})
    assert [tuple(each["image"].shape) for each in found] == [(4, 8, 8)] * 2
    whole = volume_preprocessing(4, 2, REGIONS)({"image": paths[:4], "label": paths[4]})
    np.testing.assert_array_equal(whole["label"][1], np.isin(label, [1, 2, 4])[::-1])


@pytest.mark.parametrize("shape", [(20, 16), (20, 16, 1)])
def test_a_label_as_in_its_file_is_of_one_slice_too(shape, tmp_path):
    pixels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    for name, content in (("image", pixels), ("label", (pixels > 100).astype(np.uint8))):
        nib.save(nib.Nifti1Image(content, np.diag([-1, -1, 1, 1])), tmp_path / f"{name}.nii")
    steps = volume_preprocessing(
        1, spatial_dims=2, regions={"tumour": [1]}, mask_names=["tumour"], label_as_in_file=True
    )
    found = steps({name: str(tmp_path / f"{name}.nii") for name in ("image", "label")})
    assert found["image"].shape == found["label"].shape == (1, 20, 16)
    np.testing.assert_array_equal(found["label"][0], pixels.reshape(20, 16) > 100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"spacing": [1.0, 1.0]}, "spacing must be 3 numbers, one for each axis"),
        ({"patch_size": 8, "regions": REGIONS}, "image_size of a config, must be 3 numbers, one for each axis, got 8"),
        ({"patch_size": [8, 8, 8]}, "give regions"),
    ],
)
def test_values_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        volume_preprocessing(4, **arguments)


def test_another_number_of_channels_is_one_clear_error(entry):
    with pytest.raises(Exception, match="applying transform") as caught:
        volume_preprocessing(3)(entry)
    assert "flair.nii.gz: the image has 4 channels, and 3 are needed" in str(caught.value.__cause__)
