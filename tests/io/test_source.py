"""One reading holds all that is used of a file."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data import list_data_collate
from monai.transforms import LoadImaged
from PIL import Image
from slices import PATIENT, grey, pattern, write_dicom, write_mat

from monai_kd.io import SliceReader, SourceImage, VolumeReader, read_image, read_source
from monai_kd.io.nifti import header_from_bytes
from monai_kd.io.readers import ReadAlready
from monai_kd.io.unreadable import UnreadableImage

IMAGE = grey(pattern())


def nifti(path: Path, kind: type = nib.Nifti1Image) -> Path:
    nib.save(kind(IMAGE.T, np.diag([-0.5, -0.75, 3.0, 1.0])), path)
    return path


def picture(path: Path) -> Path:
    Image.fromarray((IMAGE / 8).astype(np.uint8)).save(path)
    return path


MAKE = {
    "nifti": lambda folder: nifti(folder / "a.nii.gz"),
    "picture": lambda folder: picture(folder / "a.png"),
    "dicom": lambda folder: write_dicom(folder / "a.dcm", IMAGE),
    "mat": lambda folder: write_mat(folder / "a.mat", IMAGE),
}


@pytest.mark.parametrize("kind", MAKE)
def test_a_source_survives_pickling_and_is_what_read_image_returns(kind, tmp_path):
    path = MAKE[kind](tmp_path)
    source = pickle.loads(pickle.dumps(read_source(path)))
    image, meta = read_image(path)
    np.testing.assert_array_equal(source.pixels, image)
    assert (source.kind, source.paths, source.assumed) == (kind, (path,), "")
    assert set(source.meta()) == set(meta)
    for name, value in source.meta().items():
        np.testing.assert_array_equal(value, meta[name])
    assert (source.nifti_header is not None) == ("nifti_header" in meta) == (kind == "nifti")
    assert len(source.datasets) == (kind == "dicom")


def test_data_sets_are_those_of_the_file_without_pixels(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / f"{number}.dcm", IMAGE, position=(0, 0, 5.0 - number))
    source = read_source(tmp_path)
    for found, name in zip(source.datasets, ("2", "1", "0"), strict=True):
        whole = pydicom.dcmread(tmp_path / f"{name}.dcm")
        del whole.PixelData
        assert found == whole
        assert found.file_meta == whole.file_meta


def test_representation_shows_no_patient(tmp_path):
    source = read_source(write_dicom(tmp_path / "a.dcm", IMAGE))
    assert source.datasets[0].PatientName == PATIENT
    assert PATIENT not in repr(source)
    assert "19700102" not in repr(source)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ({"position": None}, "ImagePositionPatient"),
        ({"orientation": None}, "ImageOrientationPatient"),
        ({"position": None, "orientation": None}, "ImageOrientationPatient and ImagePositionPatient"),
    ],
)
def test_what_is_assumed(missing, named, tmp_path):
    source = read_source(write_dicom(tmp_path / "a.dcm", IMAGE, **missing))
    assert source.assumed == f"the header has no {named}: taken as an axial slice at the origin"


def test_what_is_assumed_of_nifti(tmp_path):
    image, path = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), np.eye(4)), tmp_path / "a.nii"
    nib.save(image, path)
    assert read_source(path).assumed.startswith("the affine is the identity")
    image.set_sform(np.diag([0.5, 0.5, 3, 1]), code=1)
    nib.save(image, path)
    assert read_source(path).assumed == ""
    for name in ("sform_code", "qform_code"):
        image.header[name] = 0
    image.header.set_zooms((0.5, 0.7, 3))
    path.write_bytes(image.header.binaryblock + path.read_bytes()[348:])
    source = read_source(path)
    np.testing.assert_allclose(source.spacing, (0.5, 0.7, 3), rtol=1e-6)
    assert source.assumed.endswith("taken as an axial slice with pixels of 0.5 x 0.7 x 3 mm")


@pytest.mark.parametrize(
    ("sizes", "shape", "axis"),
    [
        ((0.5, 0.5, 6), (8, 9, 4), None),
        ((1, 1, 1), (8, 9, 4), None),
        ((1, 1.9, 1), (8, 9, 4), None),
        ((6, 0.5, 0.5), (4, 9, 8), 1),
        ((0.5, 6, 0.5), (8, 4, 9), 2),
        ((0.5, 6, 0.5), (8, 1, 9), None),
        ((0.5, 6, 0.5), (8, 9), None),
    ],
)
def test_slices_that_lie_along_another_axis(sizes, shape, axis, tmp_path):
    pixels = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    nib.save(nib.Nifti1Image(pixels, np.diag([*sizes, 1])), tmp_path / "a.nii")
    warnings = read_source(tmp_path / "a.nii").warnings
    assert [f"seem to lie along axis {axis}, and were taken along axis 3" in each for each in warnings] == (
        [] if axis is None else [True]
    )


def test_copies_of_files_of_a_series(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / f"{number}.dcm", IMAGE * (number + 1), position=(0, 0, number))
    whole = read_source(tmp_path)
    shutil.copy(tmp_path / "1.dcm", tmp_path / "1 (1).dcm")
    shutil.copy(tmp_path / "2.dcm", tmp_path / "2 (1).dcm")
    source = read_source(tmp_path)
    np.testing.assert_array_equal(source.pixels, whole.pixels)
    assert "2 files are copies of others and left out" in source.warnings
    assert not [each for each in whole.warnings if "copies" in each]
    # The name of another slice alone is no copy.
    other = pydicom.dcmread(tmp_path / "1.dcm")
    other.PixelData = pydicom.dcmread(tmp_path / "2.dcm").PixelData
    other.save_as(tmp_path / "1 (1).dcm")
    with pytest.raises(UnreadableImage, match="several slices at one position"):
        read_source(tmp_path)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_header_goes_through_metadata(kind, tmp_path):
    path = nifti(tmp_path / "a.nii", kind)
    block = read_image(path)[1]["nifti_header"]
    assert (block.shape, block.dtype) == ((540,), np.uint8)
    with open(path, "rb") as file:
        assert header_from_bytes(block.tobytes()) == kind.header_class.from_fileobj(file)
    assert isinstance(header_from_bytes(block.tobytes()), kind.header_class)


def test_metadata_of_every_kind_is_collated(tmp_path):
    paths = [nifti(tmp_path / "a.nii"), nifti(tmp_path / "b.nii", nib.Nifti2Image), picture(tmp_path / "c.png")]
    load = LoadImaged("image", reader=SliceReader, image_only=True)
    batch = list_data_collate([load({"image": path}) for path in paths[:2]])
    assert batch["image"].meta["nifti_header"].shape == (2, 540)
    assert "nifti_header" not in list_data_collate([load({"image": path}) for path in paths])["image"].meta


def test_what_was_read_is_loaded_as_from_the_file_and_not_changed(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", IMAGE)  # float32, as LoadImage returns
    source = read_source(path)
    before = source.pixels.copy()
    load = LoadImaged("image", reader=SliceReader, image_only=True)
    again = load({"image": path}, reader=ReadAlready(source.pixels, source.meta()))["image"]
    expected = load({"image": path})["image"]
    assert torch.equal(again, expected)
    assert set(again.meta) == set(expected.meta)
    again += 1
    again.affine[0, 3] += 1
    np.testing.assert_array_equal(source.pixels, before)
    np.testing.assert_array_equal(source.affine, read_source(path).affine)


def test_channels_of_a_volume_have_the_header_of_the_first(tmp_path):
    names = ["t1.nii.gz", "t2.nii"]
    for number, name in enumerate(names):
        # as far apart as rounding may put them
        nib.save(nib.Nifti1Image(IMAGE.T + number, np.diag([1, 1, 2 + number / 1000, 1])), tmp_path / name)
    source = VolumeReader(2).source([tmp_path / name for name in names])
    assert isinstance(source, SourceImage)
    assert source.pixels.shape == (2, 64, 64)
    np.testing.assert_array_equal(source.first_channel, IMAGE.T)
    np.testing.assert_array_equal(source.meta()["spatial_shape"], (64, 64))
    np.testing.assert_array_equal(source.nifti_header.get_best_affine(), np.diag([1, 1, 2, 1]))
