"""What a viewer is sent: pixels and masks as the file has them, upright, with the sides of the patient."""

from __future__ import annotations

import base64
import json
import zlib
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image
from slices import grey, pattern, write_dicom

from monai_kd.inference import read_source
from monai_kd.inference.view import image_view
from monai_kd.transforms import edge_marks, upright_array

# Of a volume with axial slices, however it is stored in its plane.
AXIAL = [(a, b, c) for first, second in permutations(("RL", "AP")) for a, b, c in product(first, second, "SI")]
SPACING = {"R": 0.5, "L": 0.5, "A": 0.75, "P": 0.75, "S": 4.0, "I": 4.0}


def stored(codes: tuple[str, ...], canonical: np.ndarray, folder: Path) -> Path:
    """A file whose axes run towards ``codes``, of a volume whose axes run to the left, to the back and upwards."""
    affine = np.diag([-0.5, -0.75, 4.0, 1.0])
    affine[:3, 3] = 30, 40, -20
    image = nib.Nifti1Image(canonical, affine)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    nib.save(image.as_reoriented(turn), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def plane(packed: str, view: dict) -> np.ndarray:
    """Bytes as (…, columns, rows, slices), as a viewer reads them."""
    shape = -1, view["slices"], view["rows"], view["columns"]
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8).reshape(shape).transpose(0, 3, 2, 1)


def grey_values(view: dict) -> np.ndarray:
    low, high = plane(view["pixels"], view).astype(int)
    return view["low"] + view["step"] * (low + 256 * high)


@pytest.mark.parametrize("codes", AXIAL, ids="".join)
def test_upright_with_its_sides(codes, tmp_path):
    """By nibabel: whatever way the file is stored, left is at the right, and the front is at the top."""
    canonical = np.random.default_rng(0).integers(-200, 3000, (10, 8, 3)).astype(np.int16)
    source = read_source(stored(codes, canonical, tmp_path))
    masks = (source.pixels > 1500).astype(np.uint8)
    view = json.loads(json.dumps(image_view(source, masks, first=2)))
    assert view["marks"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    # The order of slices stays that of the file.
    expected = canonical if codes[2] == "S" else canonical[..., ::-1]
    np.testing.assert_array_equal(grey_values(view), expected)
    (mask,) = view["masks"]
    np.testing.assert_array_equal(plane(mask["pixels"], view)[0], expected > 1500)
    assert (mask["name"], mask["colour"], view["first"]) == ("tumour", "#ff5252", 2)
    assert view["aspect"] == pytest.approx(1.5)
    black, white = view["window"]
    assert canonical.min() <= black < white <= canonical.max()


@pytest.mark.parametrize(
    ("affine", "marks"),
    [
        # sagittal: columns to the back, rows to the feet
        ([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], {"left": "A", "right": "P", "top": "S", "bottom": "I"}),
        # coronal, stored with rows upwards
        ([[1, 0, 0], [0, 0, 1], [0, 1, 0]], {"left": "R", "right": "L", "top": "S", "bottom": "I"}),
        # axial, turned by 30 degrees in its plane: the second letters are those of viewers
        ([[-0.866, -0.5, 0], [0.5, -0.866, 0], [0, 0, 1]], {"left": "RP", "right": "LA", "top": "AR", "bottom": "PL"}),
        # tilted by 10 degrees about the left-right axis: no second letter
        ([[-1, 0, 0], [0, -0.985, -0.17], [0, -0.17, 0.985]], {"left": "R", "right": "L", "top": "A", "bottom": "P"}),
    ],
    ids=["sagittal", "coronal", "oblique", "tilted"],
)
def test_sides_of_other_planes(affine, marks):
    assert edge_marks(np.array(affine, float)) == marks


def test_a_bright_left_half_lies_at_the_letter_l(tmp_path):
    """Independent of any turning: the world coordinate of the bright voxels is on the side that the letter names."""
    for codes in AXIAL:
        canonical = np.zeros((10, 8, 2), np.int16)
        canonical[6:] = 100  # columns run to the left
        path = stored(codes, canonical, tmp_path)
        image = nib.load(path)
        where = nib.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() > 0)).mean(0)
        assert where[0] < nib.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() == 0)).mean(0)[0]
        source = read_source(path)
        upright = upright_array(source.pixels, source.affine)
        assert upright[-1].min() == 100
        assert edge_marks(source.affine)["right"] == "L"


def unknown(name: str, folder: Path) -> Path:
    image, path = grey(pattern(48, 40)), folder / name
    if name == "a.png":
        Image.fromarray((image / 8).astype(np.uint8)).save(path)
    elif name == "a.dcm":
        write_dicom(path, image, position=None)
    else:
        # Without an affine, nibabel writes codes of 0, and reads a centred one.
        affine = np.diag([-0.5, -0.5, 5.0, 1.0]) if name == "origin.nii" else None
        nib.save(nib.Nifti1Image(image.T[..., None], affine), path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "origin.nii", "codes.nii"])
def test_no_sides_where_the_file_does_not_say(name, tmp_path):
    source = read_source(unknown(name, tmp_path))
    assert not source.orientation_known
    assert image_view(source, np.zeros(source.pixels.shape, np.uint8))["marks"] is None


def test_sides_of_dicom_and_nifti(tmp_path):
    assert read_source(write_dicom(tmp_path / "a.dcm", grey(pattern()))).orientation_known
    assert read_source(stored(("L", "P", "S"), np.arange(60.0).reshape(5, 4, 3), tmp_path)).orientation_known


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_any_numbers(scale, tmp_path):
    image = (scale * np.random.default_rng(1).normal(size=(12, 9))).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "a.nii")
    view = image_view(read_source(tmp_path / "a.nii"), np.zeros_like(image))
    np.testing.assert_allclose(grey_values(view)[..., 0], image, atol=np.ptp(image) / 4000)
    assert view["window"][0] < view["window"][1]


def test_several_classes(tmp_path):
    image = np.random.default_rng(1).normal(size=(12, 9)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.diag([1.0, 1.0, 1.0, 1.0])), tmp_path / "a.nii")
    masks = np.stack([image > 0, image > 1]).astype(np.uint8)
    view = image_view(read_source(tmp_path / "a.nii"), masks, ["first", "second"])
    assert [mask["name"] for mask in view["masks"]] == ["first", "second"]
    assert len({mask["colour"] for mask in view["masks"]}) == 2
    for mask, expected in zip(view["masks"], masks, strict=True):
        # The file's rows run to the front, and its columns to the right.
        np.testing.assert_array_equal(plane(mask["pixels"], view)[0, ..., 0], expected[::-1, ::-1])
