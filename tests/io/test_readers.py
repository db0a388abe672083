"""Every file that can't be used says why."""

import gzip
import re
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from monai.transforms import Compose, LoadImage, LoadImaged
from PIL import Image
from pydicom.uid import RLELossless
from slices import PATIENT, grey, pattern, write_dicom, write_mat

from monai_kd.io import SliceReader, UnreadableImage, read_image, read_source
from monai_kd.io.unreadable import reason_of

IMAGE = grey(pattern())


def nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def text(path: Path) -> Path:
    path.write_text("not an image at all, whatever its name says")
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def patched(path: Path, offset: int, form: str, *values: float) -> Path:
    """Values written over the header of a NIfTI file, packed or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        content = bytearray(file.read())
    struct.pack_into(form, content, offset, *values)
    with opened(path, "wb") as file:
        file.write(content)
    return path


def exif(path: Path, offset: int, value: int) -> Path:
    """A picture that the camera held upright, with one wrong byte in the EXIF entry of its resolution."""
    notes = Image.Exif()
    notes[0x0112], notes[0x011A] = 6, 1.5  # orientation, horizontal resolution
    Image.fromarray(NOISE).save(path, exif=notes)
    content = bytearray(path.read_bytes())
    entry = content.index(b"\x01\x1a\x00\x05")  # two bytes of tag, two of type
    content[entry + offset] = value
    path.write_bytes(content)
    return path


def with_nan() -> np.ndarray:
    image = IMAGE.astype(np.float32)
    image[3, 4] = np.nan
    return image


def other_checksum(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    return path


def picture(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


NOISE = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
PLANE = np.array([[1.0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
RGB = np.zeros((8, 8, 1), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
BAD = {
    "nifti, empty": (lambda d: empty(d / "a.nii.gz"), "the file is empty"),
    "nifti, text": (lambda d: text(d / "a.nii"), "can't be read as NIfTI"),
    "nifti, packed text": (lambda d: text(d / "a.nii.gz"), "can't be read as NIfTI"),
    "nifti, truncated": (lambda d: cut(nifti(d / "a.nii.gz", NOISE)), "truncated"),
    "nifti, not packed, truncated": (lambda d: cut(nifti(d / "a.nii", NOISE)), "truncated"),
    "nifti, damaged": (lambda d: d / "damaged.nii.gz", "truncated or damaged"),
    "nifti, constant": (lambda d: nifti(d / "a.nii.gz", np.full((8, 8, 2), 7.0)), r"constant \(every pixel is 7\)"),
    "nifti, number type": (lambda d: patched(nifti(d / "a.nii", NOISE), 70, "<h", 9999), "HeaderDataError: data code"),
    "nifti, far offset": (lambda d: patched(nifti(d / "a.nii", NOISE), 108, "<f", 1e9), "puts the pixels at byte 1e"),
    "nifti, offset beyond the end": (lambda d: patched(nifti(d / "a.nii", NOISE), 108, "<f", 9600), "is truncated"),
    "nifti, no offset": (lambda d: patched(nifti(d / "a.nii.gz", NOISE), 108, "<f", np.inf), "puts the .* at byte inf"),
    "nifti, offset NaN": (
        lambda d: patched(nifti(d / "a.nii.gz", NOISE), 108, "<f", np.nan),
        "at byte nan",
    ),
    "nifti, in two files": (lambda d: patched(nifti(d / "a.nii", NOISE), 344, "<4s", b"ni1"), "lie in another file"),
    "nifti, negative size": (lambda d: patched(nifti(d / "a.nii", NOISE), 42, "<h", -64), "no pixels|HeaderDataError"),
    "nifti, a line": (lambda d: nifti(d / "a.nii", NOISE[:1, :, None]), r"size .1, 64, 1.: a line is no slice"),
    "nifti, flat": (lambda d: patched(nifti(d / "a.nii", NOISE), 312, "<4f", 0, 0, 0, 0), "its affine is invalid"),
    "nifti, axes in one plane": (lambda d: nifti(d / "a.nii", NOISE[..., None], PLANE), "its affine is invalid"),
    "nifti, affine NaN": (lambda d: patched(nifti(d / "a.nii", NOISE), 280, "<f", np.nan), "its affine is invalid"),
    "nifti, intercept NaN": (
        lambda d: patched(nifti(d / "a.nii", NOISE), 112, "<2f", 2.0, np.nan),
        "Valid slope but invalid intercept",
    ),
    "nifti, values too near": (lambda d: nifti(d / "a.nii", NOISE.astype(np.int32) + 2**30), "differ by too little"),
    "nifti, scaled too near": (
        lambda d: patched(nifti(d / "a.nii", NOISE), 112, "<2f", 1e-9, 1.0),
        "differ by too little",
    ),
    "nifti, huge": (
        lambda d: patched(nifti(d / "a.nii.gz", NOISE[..., None]), 40, "<4h", 3, *[32767] * 3),
        "the image has 35,181,150,961,663 pixels, more than the 134,217,728 that are read",
    ),
    "nifti, NaN": (lambda d: nifti(d / "a.nii.gz", with_nan()), "NaN or infinity in 1 pixels"),
    "nifti, beyond 32 bits": (lambda d: nifti(d / "a.nii.gz", 1e300 * NOISE), "too large to be scaled"),
    "nifti, range beyond 32 bits": (
        lambda d: nifti(d / "a.nii.gz", np.float32(3e38) * np.where(NOISE > 99, 1, -1).astype(np.float32)),
        "too large to be scaled",
    ),
    "nifti, checksum": (lambda d: other_checksum(nifti(d / "a.nii.gz", NOISE)), "truncated or damaged"),
    "nifti, four axes": (lambda d: nifti(d / "a.nii.gz", NOISE.reshape(8, 8, 8, 8)), r"4 axes \(8, 8, 8, 8\)"),
    "nifti, one axis": (lambda d: nifti(d / "a.nii.gz", NOISE[0]), "1 axes"),
    "nifti, colours": (lambda d: nifti(d / "a.nii.gz", RGB), "colours or complex"),
    "nifti, complex": (lambda d: nifti(d / "a.nii.gz", NOISE.astype(np.complex64)), "colours or complex"),
    "picture, empty": (lambda d: empty(d / "a.png"), "the file is empty"),
    "picture, text": (lambda d: text(d / "a.jpg"), "cannot identify"),
    "picture, truncated": (lambda d: cut(picture(d / "a.png", NOISE)), "truncated"),
    "picture, truncated JPEG": (lambda d: cut(picture(d / "a.jpg", NOISE)), "truncated"),
    "picture, EXIF tag": (
        lambda d: exif(d / "a.jpg", 1, 0),
        "can't be read as a picture, .* .error: required argument",
    ),
    "picture, EXIF type": (lambda d: exif(d / "a.jpg", 3, 1), "can't be read as a picture, .* .TypeError: bad operand"),
    "picture, constant": (lambda d: picture(d / "a.png", np.zeros((8, 8), np.uint8)), "constant"),
    "mat, empty": (lambda d: empty(d / "a.mat"), "the file is empty"),
    "mat, text": (lambda d: text(d / "a.mat"), "not a readable .mat file"),
    "mat, truncated": (lambda d: cut(write_mat(d / "a.mat", NOISE)), "truncated"),
    "mat, constant": (lambda d: write_mat(d / "a.mat", np.ones((8, 8))), "constant"),
    "dicom, empty": (lambda d: empty(d / "a.dcm"), "the file is empty"),
    "dicom, text": (lambda d: text(d / "a.dcm"), "not a DICOM file"),
    "dicom, truncated": (lambda d: cut(write_dicom(d / "a.dcm", IMAGE)), "truncated"),
    "dicom, header only": (lambda d: cut(write_dicom(d / "a.dcm", IMAGE), 0.08), "no image|truncated"),
    "dicom, report": (
        lambda d: write_dicom(d / "a.dcm", IMAGE, Rows=None, Modality="SR"),
        r"holds no image \(modality SR\)",
    ),
    "dicom, colours": (
        lambda d: write_dicom(
            d / "a.dcm",
            np.dstack([NOISE] * 3),
            SamplesPerPixel=3,
            PhotometricInterpretation="RGB",
            PlanarConfiguration=0,
        ),
        r"colour image \(RGB\)",
    ),
    "dicom, palette": (
        lambda d: write_dicom(d / "a.dcm", NOISE, PhotometricInterpretation="PALETTE COLOR"),
        "colour image",
    ),
    "dicom, frames": (
        lambda d: write_dicom(d / "a.dcm", IMAGE, Rows=16, NumberOfFrames=4),
        r"multi-frame \(4 frames\)",
    ),
    "dicom, negative frames": (lambda d: write_dicom(d / "a.dcm", IMAGE, NumberOfFrames=-1), "multi-frame"),
    "dicom, CT": (lambda d: write_dicom(d / "a.dcm", IMAGE, Modality="CT"), "is of modality CT"),
    "dicom, segmentation": (lambda d: write_dicom(d / "a.dcm", IMAGE, Modality="SEG"), "a segmentation"),
    "dicom, constant": (lambda d: write_dicom(d / "a.dcm", np.zeros((8, 8), np.int16)), "constant"),
    "dicom, no orientation": (
        lambda d: write_dicom(d / "a.dcm", IMAGE, orientation=(1, 0, 0, 1, 0, 0)),
        "axes are not orthonormal",
    ),
    "unknown": (lambda d: text(d / "a.txt"), "none of NIfTI, PNG"),
}


@pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD)
def test_reason(tmp_path, make, reason):
    content = bytearray(gzip.compress(bytes(8000) + NOISE.tobytes()))
    content[60:90] = bytes(30)
    (tmp_path / "damaged.nii.gz").write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        read_image(make(tmp_path))
    assert PATIENT not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def series(folder: Path, positions: list[float], **changes: dict) -> list[Path]:
    return [
        write_dicom(folder / f"{i}.dcm", IMAGE, position=(0, 0, z), **changes.get(f"slice{i}", {}))
        for i, z in enumerate(positions)
    ]


SERIES = {
    "same place": ([0, 4, 4, 8], {}, "several slices at one position"),
    "shifted sideways": (
        [0, 4, 8, 12],
        {"slice2": {"ImagePositionPatient": [60, 0, 8]}},
        r"shifted sideways against each other, by up to 60\.00 mm",
    ),
    "no position": ([0, 4, 8], {"slice1": {"ImagePositionPatient": None}}, "no ImagePositionPatient"),
    "other spacing": ([0, 4, 8], {"slice2": {"spacing": (0.4, 0.4)}}, "differ in PixelSpacing"),
    "other view": ([0, 4, 8], {"slice0": {"orientation": (0, 1, 0, 0, 0, -1)}}, "differ in ImageOrientationPatient"),
    "other size": ([0, 4, 8], {"slice0": {"Rows": 32}}, "differ in size"),
    "other series": ([0, 4, 8], {"slice0": {"series": "1.2.4"}}, "holds 2 DICOM series"),
}


@pytest.mark.parametrize(("positions", "changes", "reason"), SERIES.values(), ids=SERIES)
def test_slices_that_make_no_volume(tmp_path, positions, changes, reason):
    series(tmp_path, positions, **changes)
    with pytest.raises(UnreadableImage, match=reason):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("side", "sizes", "assumed"), [(3, (0, 0.5, 5), True), (3, (0.5, 0.5, 0), True), (1, (0.5, 0.5, 0), False)]
)
def test_nifti_whose_position_has_no_pixel_sizes(side, sizes, assumed, tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((8, 8, side))
    header.set_data_dtype(np.uint8)
    header.set_qform(np.diag([-0.5, -0.5, 5.0, 1.0]), code=1)
    header["pixdim"][1:4] = sizes
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path = tmp_path / "scan.nii"
    path.write_bytes(header.binaryblock + bytes(4) + bytes(range(64)) * side)
    source = read_source(path)
    assert (source.assumed != "") == assumed
    if assumed:
        assert source.assumed.startswith("the header has no orientation (qform, sform)")
        assert "x 1" in source.assumed or "of 1" in source.assumed
    else:
        np.testing.assert_allclose(np.diag(source.affine)[:2], [-0.5, -0.5])


@pytest.mark.parametrize("tilt", [0.0, 0.25])
def test_uneven_slices_keep_their_positions(tmp_path, tilt):
    for number, z in enumerate([0, 4, 12, 16, 20]):
        write_dicom(tmp_path / f"{number}.dcm", IMAGE, position=(tilt * z, 0, z))
    source = read_source(tmp_path)
    np.testing.assert_allclose(source.positions, [0, 4, 12, 16, 20])
    np.testing.assert_allclose(source.meta()["slice_positions"], source.positions)
    np.testing.assert_allclose(np.abs(source.affine[:3, 2]), [4 * tilt, 0, 4])
    assert source.warnings[0].startswith("the slices are 4.00 to 8.00 mm apart")


def test_even_slices_need_no_positions(tmp_path):
    source = read_source(series(tmp_path, [0, 4.1, 8, 12]))
    assert source.positions is None
    assert source.warnings == ()
    assert "slice_positions" not in source.meta()


def test_a_tilted_series_is_a_volume(tmp_path):
    for number in range(4):
        write_dicom(tmp_path / f"{number}.dcm", IMAGE, position=(0.5 * number, 0, 4 * number))
    image, meta = read_image(tmp_path)
    assert image.shape[2] == 4
    np.testing.assert_allclose(np.abs(meta["affine"][:3, 2]), [0.5, 0, 4])


def test_series_as_files_or_as_a_folder(tmp_path):
    files = series(tmp_path, [8, 0, 4])
    by_folder, by_files = read_image(tmp_path), read_image(files)
    np.testing.assert_array_equal(by_folder[0], by_files[0])
    np.testing.assert_array_equal(by_folder[1]["affine"], by_files[1]["affine"])
    # Rows are 0.5 mm apart, columns 0.75 mm.
    np.testing.assert_allclose(by_folder[1]["spacing"], [0.75, 0.5, 4])


def test_spacing_that_is_not_told_is_nan(tmp_path):
    _, meta = read_image(write_dicom(tmp_path / "a.dcm", IMAGE, spacing=None, position=None, orientation=None))
    assert np.isnan(meta["spacing"][:2]).all()
    _, meta = read_image(picture(tmp_path / "a.png", NOISE))
    assert np.isnan(meta["spacing"]).all()


def test_rescaled_values(tmp_path):
    image, _ = read_image(write_dicom(tmp_path / "a.dcm", IMAGE, RescaleSlope=2.5, RescaleIntercept=-300))
    np.testing.assert_allclose(image[..., 0], IMAGE.T * 2.5 - 300)


def test_compressed_dicom(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", IMAGE)
    data = pydicom.dcmread(path)
    data.compress(RLELossless)
    data.save_as(path)
    np.testing.assert_array_equal(read_image(path)[0][..., 0], IMAGE.T)


def test_the_reader_names_the_file_and_the_table_of_results_does_not(tmp_path):
    bad = str(picture(tmp_path / "a.png", np.zeros((8, 8), np.uint8)))
    with pytest.raises(RuntimeError) as caught:
        Compose([LoadImaged("image", reader=SliceReader)])({"image": bad})
    assert str(caught.value.__cause__) == f"{bad}: the image is constant (every pixel is 0)"
    assert reason_of(caught.value) == "the image is constant (every pixel is 0)"


def test_no_other_reader_is_tried(tmp_path):
    # MONAI's PILReader would make three channels of it, and its NumpyReader, ITKReader … would have a try.
    Image.fromarray(np.dstack([NOISE] * 3)).save(tmp_path / "a.png")
    assert LoadImage(reader=SliceReader, ensure_channel_first=True)(tmp_path / "a.png").shape == (1, 64, 64)
    # Whoever reads many files is told which one it was; a table that names it anyway gets the bare reason.
    with pytest.raises(UnreadableImage, match=re.escape(f"{tmp_path / 'b.png'}: it can't be read")) as caught:
        LoadImage(reader=SliceReader)(text(tmp_path / "b.png"))
    assert reason_of(caught.value).startswith("it can't be read as a picture")
