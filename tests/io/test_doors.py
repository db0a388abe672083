"""What holds for every format: sizes, special files, want of memory, and a process that ends."""

from __future__ import annotations

import os
from pathlib import Path

import deadly
import h5py
import nibabel as nib
import numpy as np
import pytest
from monai.data import DataLoader
from monai.transforms import Compose, LoadImaged
from PIL import Image
from scipy.io import savemat
from slices import grey, pattern, write_dicom, write_mat

from monai_kd.inference import InputFiles, ReadableDataset, collate_file
from monai_kd.io import SliceReader, UnreadableImage, read_image

IMAGE = grey(pattern())  # 64 × 64


def nifti(path: Path) -> Path:
    nib.save(nib.Nifti1Image(IMAGE, np.eye(4)), path)
    return path


def picture(path: Path) -> Path:
    Image.fromarray((IMAGE // 4).astype(np.uint8)).save(path)
    return path


def older_mat(path: Path) -> Path:
    savemat(path, {"image": IMAGE}, do_compression=True)
    return path


FORMATS = {
    "nifti": lambda d: nifti(d / "a.nii"),
    "packed nifti": lambda d: nifti(d / "a.nii.gz"),
    "png": lambda d: picture(d / "a.png"),
    "jpeg": lambda d: picture(d / "a.jpg"),
    "dicom": lambda d: write_dicom(d / "a.dcm", IMAGE),
    "dicom, any name": lambda d: write_dicom(d / "IM0001", IMAGE),
    "mat": lambda d: write_mat(d / "a.mat", IMAGE),
    "older mat": lambda d: older_mat(d / "a.mat"),
}


@pytest.mark.parametrize("make", FORMATS.values(), ids=FORMATS)
def test_one_limit_for_all_formats(tmp_path, make):
    path = make(tmp_path)
    assert read_image(path, max_pixels=4096)[0].size == 4096
    with pytest.raises(UnreadableImage, match=r"has 4,096 pixels, more than the 4,095 that are read; .* raise"):
        read_image(path, max_pixels=4095)
    with pytest.raises(UnreadableImage, match="4,096 pixels"):
        LoadImaged("image", reader=SliceReader(max_pixels=4095))({"image": path})


def test_the_slices_of_a_series_are_added_up(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / f"{number}.dcm", IMAGE, position=(0, 0, 4.0 * number))
    assert read_image(tmp_path, max_pixels=3 * 4096)[0].shape == (64, 64, 3)
    with pytest.raises(UnreadableImage, match="12,288 pixels, more than the 12,287"):
        read_image(tmp_path, max_pixels=3 * 4096 - 1)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.png", "a.jpg", "a.dcm", "a.mat", "IM0001"])
@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a folder"])
def test_only_files_are_opened(tmp_path, name, kind):
    path = tmp_path / "in" / name
    path.parent.mkdir()
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    dicom_folder = kind == "a folder" and name in ("a.dcm", "IM0001")
    unknown = name == "IM0001" and kind != "a folder"
    reason = "the folder holds no DICOM files" if dicom_folder else f"it is {kind}, not a file"
    with pytest.raises(UnreadableImage, match=reason):
        read_image(path)
    nifti(path.parent / "b.nii")
    images = InputFiles(path.parent, tmp_path / "out")
    assert len(images) == (1 if unknown or kind == "a folder" else 2)
    assert images.skipped == ([name] if unknown else [])


def test_links_to_files_are_followed(tmp_path):
    (tmp_path / "b.nii").symlink_to(nifti(tmp_path / "a.nii"))
    assert read_image(tmp_path / "b.nii")[0].shape == (64, 64)
    with pytest.raises(UnreadableImage, match="No such file"):
        read_image(tmp_path / "c.nii")


PLACES = {
    "nifti": "monai_kd.io.nifti._pixels",
    "png": "monai_kd.io.pictures.np.asarray",
    "dicom": "monai_kd.io.dicom.pydicom.dcmread",
    "mat": "data_prep.matfile.image_of",
}


@pytest.mark.parametrize("kind", PLACES)
def test_no_memory_is_a_reason(tmp_path, monkeypatch, kind):
    path = FORMATS[kind](tmp_path)
    monkeypatch.setattr(PLACES[kind], deadly.no_memory)
    with pytest.raises(UnreadableImage, match="it does not fit into memory"):
        read_image(path)


def test_no_memory_after_reading_is_a_reason_too(tmp_path):
    nifti(tmp_path / "a.nii")
    transforms = Compose([LoadImaged("image", reader=SliceReader), deadly.no_memory])
    (item,) = ReadableDataset(InputFiles(tmp_path, tmp_path / "out"), transforms)
    assert item == {"file": "a.nii", "reason": "it does not fit into memory"}


def test_a_mat_that_ends_the_process_is_one_files_fault(tmp_path, monkeypatch):
    path = write_mat(tmp_path / "a.mat", IMAGE)
    for function, how in ((deadly.abort, "signal 6"), (deadly.end, "exit code 7")):
        with monkeypatch.context() as patch:
            patch.setattr("data_prep.matfile.image_of", function)
            with pytest.raises(UnreadableImage, match=f"ended the process that read it .{how}.: damaged"):
                read_image(path)
        np.testing.assert_array_equal(read_image(path)[0][..., 0].T, IMAGE)


def test_in_a_worker_of_a_loader(tmp_path, monkeypatch):
    """Which must have no children of `multiprocessing`."""
    write_mat(tmp_path / "a.mat", IMAGE)
    data = ReadableDataset(InputFiles(tmp_path, tmp_path / "out"), LoadImaged("image", reader=SliceReader))
    for function in (None, deadly.abort):
        if function is not None:
            monkeypatch.setattr("data_prep.matfile.image_of", function)
        (batch,) = DataLoader(data, num_workers=1, collate_fn=collate_file)
        assert ("image" in batch) == (function is None)
    assert "ended the process" in batch["reason"][0]


UNUSED = {
    "without": {},
    "label 0": {"label": 0.0},
    "no mask": {"tumorMask": np.zeros((64, 64), np.uint8)},
    "mask of another size": {"tumorMask": np.ones((3, 3))},
    "no border": {"tumorBorder": np.zeros((0, 0))},
    "PID of another kind": {"PID": {"a": 1.0}},
}


@pytest.mark.parametrize("more", UNUSED.values(), ids=UNUSED)
@pytest.mark.parametrize("old", [True, False])
def test_what_inference_does_not_use_is_not_checked(tmp_path, more, old):
    path = tmp_path / "a.mat"
    if old:
        savemat(path, {"cjdata": {"image": IMAGE, **more}})
    else:
        with h5py.File(write_mat(path, IMAGE), "a") as file:
            for name, value in more.items():
                if isinstance(value, dict):
                    file["cjdata"].create_group(name)
                else:
                    file["cjdata"][name] = np.atleast_2d(value).T
    np.testing.assert_array_equal(read_image(path)[0][..., 0].T, IMAGE)
