"""The size of a pixel in evaluation is that of inference."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import LoadImaged
from PIL import Image
from slices import grey, pattern, write_dicom

from monai_kd.data import in_plane_spacing, voxel_spacing
from monai_kd.io import SliceReader

IMAGE = grey(pattern())


def loaded(path) -> MetaTensor:
    """As an evaluator has it: out of a batch."""
    load = LoadImaged("image", reader=SliceReader, ensure_channel_first=True)
    batch = next(iter(DataLoader(Dataset([{"image": str(path)}], load), batch_size=1)))
    return decollate_batch(batch["image"])[0]


@pytest.mark.parametrize(("unit", "length"), [("mm", 1.0), ("meter", 1000.0), ("micron", 0.001), ("unknown", 1.0)])
def test_units_of_the_file(tmp_path, unit, length):
    # A coronal slice: the second axis goes along the third of the patient.
    affine = np.array([[0.5, 0, 0, 0], [0, 0, 6, 0], [0, 0.75, 0, 0], [0, 0, 0, 1]]) / length
    affine[3, 3] = 1
    image = nib.Nifti1Image(IMAGE[..., None], affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii.gz")
    found = in_plane_spacing(loaded(tmp_path / "a.nii.gz"), tmp_path / "a.nii.gz", (9, 9, 9))
    np.testing.assert_allclose(found, (0.5, 0.75), rtol=1e-5)


def test_files_that_do_not_say(tmp_path):
    Image.fromarray((IMAGE // 4).astype(np.uint8)).save(tmp_path / "a.png")
    write_dicom(tmp_path / "a.dcm", IMAGE, spacing=None)
    for name in ("a.png", "a.dcm"):
        image = loaded(tmp_path / name)
        assert in_plane_spacing(image, tmp_path / name, [0.5, 0.75, 6]) == (0.5, 0.75)
        with pytest.raises(ValueError, match=f"{name} does not record the size of a pixel"):
            in_plane_spacing(image, tmp_path / name, None)
    assert in_plane_spacing(loaded(write_dicom(tmp_path / "b.dcm", IMAGE)), "b.dcm", None) == (0.75, 0.5)


def test_without_the_metadata_of_the_reader():
    image = MetaTensor(torch.zeros(1, 4, 4), affine=torch.diag(torch.tensor([-0.5, 0.75, 6, 1])))
    assert in_plane_spacing(image, "a.nii", None) == (0.5, 0.75)
    with pytest.raises(ValueError, match="add it"):
        in_plane_spacing(image, "a.jpg", None)


def test_voxels_of_a_volume():
    affine = torch.tensor([[-0.5, 0, 0, 3], [0, 0.75, 2, 4], [0, 0, 5, 5], [0, 0, 0, 1]])  # slices tilted by 22 degrees
    volume = MetaTensor(torch.zeros(1, 4, 4, 4), affine=affine)
    assert voxel_spacing(volume, "a.nii") == pytest.approx((0.5, 0.75, 5))
    volume.meta["spacing"] = np.array([np.nan, np.nan, 5])
    with pytest.raises(ValueError, match=r"a\.dcm does not record the size of a voxel"):
        voxel_spacing(volume, "a.dcm")
