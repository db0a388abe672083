"""Data sets of slices with volumes among them."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, LoadImaged

from monai_kd.data import SliceDataset
from monai_kd.io import SliceReader
from monai_kd.transforms import SqueezeSliced

LOAD = Compose([LoadImaged("image", ensure_channel_first=True), SqueezeSliced("image")])


def nifti(path, *shape):
    array = np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return str(path), array


def test_a_volume_counts_slice_by_slice(tmp_path):
    volume, array = nifti(tmp_path / "volume.nii.gz", 6, 5, 3)
    flat, slice_ = nifti(tmp_path / "flat.nii", 6, 5)
    single, only = nifti(tmp_path / "single.nii.gz", 6, 5, 1)
    dataset = SliceDataset([{"image": path} for path in (volume, flat, single)], LOAD, progress=False)
    expected = [array[..., 0], array[..., 1], array[..., 2], slice_, only[..., 0]]
    assert len(dataset) == 5
    for item, plane in zip(dataset, expected, strict=True):
        np.testing.assert_array_equal(item["image"][0], plane)
        # Batches hold slices of both kinds.
        assert "slice" not in item
    assert [item["source"] for item in dataset] == [
        *("volume.nii.gz 1/3", "volume.nii.gz 2/3", "volume.nii.gz 3/3", "flat.nii", "single.nii.gz"),
    ]


def test_items_that_say_more_are_left_as_they_are(tmp_path):
    path, array = nifti(tmp_path / "volume.nii", 6, 5, 3)
    (item,) = SliceDataset([{"image": path, "slice": 1, "source": "mine"}], LOAD, progress=False)
    assert item["source"] == "mine"
    np.testing.assert_array_equal(item["image"][0], array[..., 1])


def test_without_items_it_takes_the_others_and_says_so(tmp_path, caplog):
    path, _ = nifti(tmp_path / "flat.nii", 6, 5)
    assert len(SliceDataset([], LOAD, otherwise=[{"image": path}], progress=False)) == 1
    assert "the 1 TRAINING images" in caplog.text


def test_nothing_at_all():
    with pytest.raises(ValueError, match="nothing is labelled yet"):
        SliceDataset([], LOAD)


def test_a_damaged_file_is_left_to_the_reader(tmp_path):
    (tmp_path / "bad.nii").write_bytes(b"no NIfTI")
    dataset = SliceDataset([{"image": str(tmp_path / "bad.nii")}], LOAD, cache_rate=0, progress=False)
    assert len(dataset) == 1
    with pytest.raises(RuntimeError, match=r"ImageFileError: .*bad\.nii"):
        dataset[0]


@pytest.mark.parametrize("shape", [(1, 6, 5), (6, 1, 5)])
def test_a_slice_along_another_axis_is_one_item(tmp_path, shape):
    path, array = nifti(tmp_path / "cut.nii.gz", *shape)
    load = Compose([LoadImaged("image", reader=SliceReader, ensure_channel_first=True), SqueezeSliced("image")])
    (item,) = SliceDataset([{"image": path}], load, progress=False)
    np.testing.assert_array_equal(item["image"][0], array.squeeze())
