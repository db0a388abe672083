"""Turning slices as viewers show them, and back."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_kd.transforms import UprightInPlane

# Where each axis of the array runs to, and where the first two must run to in the end.
CASES = {
    "axial as stored by data_prep": ("LPS", "LPS"),
    "axial by dcm2niix": ("LAS", "LPS"),
    "axial RAS": ("RAS", "LPS"),
    "axial lying": ("ARI", "LPI"),
    "coronal": ("LIP", "LIP"),
    "coronal RSA": ("RSA", "LIA"),
    "coronal lying": ("SRA", "LIA"),
    "sagittal": ("PIL", "PIL"),
    "sagittal ASR": ("ASR", "PIR"),
    "sagittal lying": ("SAL", "PIL"),
}


@pytest.mark.parametrize(("stored", "wanted"), CASES.values(), ids=CASES)
def test_turned_and_back(stored, wanted):
    volume = torch.arange(4 * 5 * 6.0).reshape(1, 4, 5, 6)
    lps = np.diag([-0.5, -0.6, 3.0, 1.0])
    start = nib.orientations.io_orientation(lps)
    turn = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(stored))
    array = nib.orientations.apply_orientation(volume[0].numpy(), turn)
    affine = lps @ nib.orientations.inv_ornt_aff(turn, (4, 5, 6))
    image = MetaTensor(torch.as_tensor(array.copy())[None], affine=affine)
    upright = UprightInPlane()
    out = upright(image)
    # What nibabel makes of the same wish.
    ornt = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(wanted)
    )
    np.testing.assert_array_equal(out[0].numpy(), nib.orientations.apply_orientation(array, ornt))
    expected = affine @ nib.orientations.inv_ornt_aff(ornt, array.shape)
    np.testing.assert_allclose(out.affine.numpy(), expected, atol=1e-9)
    back = upright.inverse(out)
    np.testing.assert_array_equal(back.numpy(), image.numpy())
    np.testing.assert_allclose(back.affine.numpy(), affine, atol=1e-9)
    assert back.applied_operations == []


def test_two_axes():
    image = MetaTensor(torch.arange(12.0).reshape(1, 3, 4), affine=np.eye(4))
    upright = UprightInPlane()
    out = upright(image)
    np.testing.assert_array_equal(out.numpy(), image.numpy()[:, ::-1, ::-1])
    np.testing.assert_array_equal(upright.inverse(out).numpy(), image.numpy())


def test_a_plain_tensor_has_no_geometry():
    image = torch.rand(1, 3, 4)
    assert UprightInPlane()(image) is image
