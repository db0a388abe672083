"""NIfTI as it is written by other programs, and by people who mean harm."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from monai_kd.io import UnreadableImage, read_image
from monai_kd.io.nifti import nifti_header

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 4096, (24, 18, 5)).astype(np.int16)
AFFINE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.2, -0.1, 0.15) @ np.diag([-0.7, -0.8, 4.0]), [4, 5, -2])
REPOSITORY = Path(__file__).resolve().parents[2]


def content(image: np.ndarray, affine: np.ndarray = AFFINE, kind: type = nib.Nifti1Image, **header: object) -> bytes:
    file = kind(image, affine)
    for name, value in header.items():
        file.header[name] = value
    return file.to_bytes()


def written(path: Path, raw: bytes) -> Path:
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def put(raw: bytes, offset: int, form: str, *values: float) -> bytes:
    changed = bytearray(raw)
    struct.pack_into(form, changed, offset, *values)
    return bytes(changed)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "u1", "i1", "<u2", "<i4", "<u4", "<f4", ">f8"])
def test_it_is_what_nibabel_reads(tmp_path, suffix, kind, dtype):
    image = (IMAGE % 100).astype(dtype)
    header = kind.header_class(endianness=dtype[0] if dtype[0] in "<>" else "<")
    header.set_data_dtype(dtype)
    file = kind(image, AFFINE, header)
    nib.save(file, tmp_path / f"a{suffix}")
    found, meta = read_image(tmp_path / f"a{suffix}")
    expected = nib.load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found, np.asanyarray(expected.dataobj))
    np.testing.assert_array_equal(meta["affine"], expected.affine)


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (2.5, -7.0, lambda x: 2.5 * x - 7),
        (-1.0, 0.0, lambda x: -x),
        (0.0, 3.0, lambda x: x),
        (np.nan, 3.0, lambda x: x),
        (np.inf, 3.0, lambda x: x),
        (1.0, 0.0, lambda x: x),
    ],
)
def test_slope_and_intercept(tmp_path, slope, intercept, expected):
    raw = put(content(IMAGE), 112, "<2f", slope, intercept)
    path = written(tmp_path / "a.nii", raw)
    np.testing.assert_allclose(read_image(path)[0], expected(IMAGE.astype(float)))
    np.testing.assert_array_equal(read_image(path)[0], np.asanyarray(nib.load(path).dataobj))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("offset", [0, 7, 348, 351.5, -16])
def test_a_small_offset_means_352(tmp_path, suffix, offset):
    path = written(tmp_path / f"a{suffix}", put(content(IMAGE), 108, "<f", offset))
    np.testing.assert_array_equal(read_image(path)[0], IMAGE)


def test_a_small_offset_in_nifti_2_means_544(tmp_path):
    path = written(tmp_path / "a.nii", put(content(IMAGE, kind=nib.Nifti2Image), 168, "<q", 0))
    np.testing.assert_array_equal(read_image(path)[0], IMAGE)


@pytest.mark.parametrize(("code", "unit"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001), (7, 1.0)])
def test_units(tmp_path, code, unit):
    affine = AFFINE.copy()
    affine[:3] /= unit
    path = written(tmp_path / "a.nii", content(IMAGE, affine, xyzt_units=code))
    meta = read_image(path)[1]
    np.testing.assert_allclose(meta["spacing"], [0.7, 0.8, 4.0], rtol=1e-5)
    np.testing.assert_allclose(meta["affine"], AFFINE, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_slice_along_another_axis_is_one_slice(tmp_path, axis):
    whole = nib.Nifti1Image(IMAGE, AFFINE)
    cut = whole.slicer[3:4] if axis == 0 else whole.slicer[:, 3:4]
    nib.save(cut, tmp_path / "a.nii.gz")
    image, meta = read_image(tmp_path / "a.nii.gz")
    assert image.shape == ((18, 5, 1), (24, 5, 1))[axis]
    np.testing.assert_array_equal(image[..., 0], np.take(IMAGE, 3, axis))
    # Every pixel lies where it lay.
    for place in ((0, 0), (4, 2)):
        before = [*place[:axis], 3, *place[axis:]]
        np.testing.assert_allclose(apply_affine(meta["affine"], [*place, 0]), apply_affine(AFFINE, before), atol=1e-4)
    assert image[4, 2, 0] == IMAGE[tuple([4, 2][:axis] + [3] + [4, 2][axis:])]
    np.testing.assert_allclose(meta["spacing"][2], (0.7, 0.8)[axis], rtol=1e-5)


def test_extensions_are_bounded_and_skipped(tmp_path):
    raw = content(IMAGE)
    for size, good in ((2**12, True), (2**25, False)):
        head = bytearray(raw[:352])
        head[108:112], head[348] = struct.pack("<f", 352 + size), 1
        path = written(tmp_path / "a.nii.gz", bytes(head) + struct.pack("<2i", size, 6) + bytes(size - 8) + raw[352:])
        if good:
            np.testing.assert_array_equal(read_image(path)[0], IMAGE)
        else:
            with pytest.raises(UnreadableImage, match="16,777,216 bytes of extensions are read"):
                read_image(path)


def test_what_follows_the_pixels_is_counted(tmp_path):
    path = written(tmp_path / "a.nii.gz", content(IMAGE) + bytes(2**20))
    np.testing.assert_array_equal(read_image(path)[0], IMAGE)
    path = written(tmp_path / "a.nii.gz", content(IMAGE) + bytes(2**25))
    with pytest.raises(UnreadableImage, match="takes more than 16,817,216 bytes"):
        read_image(path, max_pixels=5000)


BOMB = """
import resource, sys
from monai_kd.io import UnreadableImage, read_image
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
read_image(sys.argv[1])
before = peak()
for path in sys.argv[2:]:
    try:
        read_image(path)
    except UnreadableImage as error:
        print(error)
print(peak() - before)
"""


def test_small_files_take_no_gigabytes(tmp_path):
    """Peak memory of a process that meets files that would unpack to some GB, or announce as much."""
    good = written(tmp_path / "good.nii.gz", content(IMAGE))
    head = put(content(IMAGE)[:352], 40, "<4h", 3, 1024, 1024, 400)
    with gzip.open(tmp_path / "many.nii.gz", "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(10):
            file.write(bytes(2**22))
    with gzip.open(tmp_path / "rest.nii.gz", "wb", compresslevel=1) as file:
        file.write(content(IMAGE))
        for _ in range(70):
            file.write(bytes(2**22))
    truncated = written(tmp_path / "truncated.nii.gz", put(content(IMAGE), 40, "<4h", 3, 1024, 1024, 100))
    paths = [good, tmp_path / "many.nii.gz", tmp_path / "rest.nii.gz", truncated]
    command = [sys.executable, "-W", "ignore", "-c", BOMB, *paths]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, cwd=REPOSITORY)
    lines = done.stdout.splitlines()
    assert "419,430,400 pixels, more than the 134,217,728" in lines[0], done
    assert "is truncated" in lines[1]
    assert int(lines[-1]) < 30


def test_header_alone(tmp_path):
    path = written(tmp_path / "a.nii", content(IMAGE)[:352])
    assert nifti_header(path).get_data_shape() == (24, 18, 5)
    with pytest.raises(UnreadableImage, match=r"can't be opened .No such file"):
        nifti_header(tmp_path / "none.nii")
