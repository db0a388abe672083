"""DICOM files as scanners, archives and accidents leave them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_file import PYDICOM
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.fileset import FileSet
from slices import PATIENT, grey, pattern, write_dicom

from monai_kd.io import UnreadableImage, read_image

IMAGE = grey(pattern()).astype(np.uint16)


def compressed(path: Path, syntax: uid.UID, codestream: bytes, image: np.ndarray = IMAGE) -> Path:
    data = pydicom.dcmread(write_dicom(path, image))
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([codestream])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.save_as(path)
    return path


def by_pillow(form: str, **options: object) -> Callable[[np.ndarray], bytes]:
    def encode(image: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, form, **options)
        return buffer.getvalue()

    return encode


def by_pyjpegls(image: np.ndarray) -> bytes:
    return bytes(pytest.importorskip("jpeg_ls").encode_array(image))


# syntax, encoder, kind of pixels, largest difference
DECODED = {
    "JPEG, 8 bit": (uid.JPEGBaseline8Bit, by_pillow("jpeg", quality=100), np.uint8, 2),
    "JPEG 2000, 16 bit": (uid.JPEG2000Lossless, by_pillow("jpeg2000", no_jp2=True), np.uint16, 0),
    "JPEG-LS, 16 bit": (uid.JPEGLSLossless, by_pyjpegls, np.uint16, 0),
}


@pytest.mark.parametrize(("syntax", "encode", "kind", "difference"), DECODED.values(), ids=DECODED)
def test_compressed_pixels(tmp_path, syntax, encode, kind, difference):
    image = np.where(pattern(), 220 if kind == np.uint8 else 40000, 30).astype(kind)
    found, _ = read_image(compressed(tmp_path / "a.dcm", syntax, encode(image), image))
    np.testing.assert_allclose(found[..., 0], image.T, atol=difference)


UNDECODED = {
    uid.JPEGBaseline8Bit: "pylibjpeg pylibjpeg-libjpeg",
    uid.JPEGExtended12Bit: "pylibjpeg pylibjpeg-libjpeg",
    uid.JPEGLossless: "pylibjpeg pylibjpeg-libjpeg",
    uid.JPEGLosslessSV1: "pylibjpeg pylibjpeg-libjpeg",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg pylibjpeg-openjpeg",
    uid.JPEG2000: "pylibjpeg pylibjpeg-openjpeg",
    # pydicom 2 can't write the last one.
    **({uid.HTJ2KLossless: "pylibjpeg pylibjpeg-openjpeg"} if PYDICOM > 2 else {}),
}


def without_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    if PYDICOM < 3:
        for handler in pydicom.config.pixel_data_handlers:
            monkeypatch.setattr(handler, "is_available", lambda: False)
    else:
        monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)


@pytest.mark.parametrize("syntax", UNDECODED, ids=lambda syntax: syntax.name)
def test_compressed_pixels_without_a_decoder(tmp_path, monkeypatch, syntax):
    without_decoders(monkeypatch)
    with pytest.raises(UnreadableImage) as caught:
        read_image(compressed(tmp_path / "a.dcm", syntax, b"no matter"))
    assert f"compressed as {syntax.name} and" in str(caught.value)
    assert str(caught.value).endswith(f"no decoder for it is installed: pip install {UNDECODED[syntax]}")


@pytest.mark.parametrize(
    ("syntax", "reason"),
    [
        (uid.RLELossless, "compressed as RLE Lossless and can't be decoded: damaged.$"),
        (uid.JPEG2000, "JPEG 2000 Image Compression and can't be decoded: damaged. If not, .* pip install pylibjpeg"),
        (uid.MPEG2MPML, "MPEG2 .* there is no decoder for it: convert the file"),
    ],
)
def test_damaged_or_of_no_use(tmp_path, syntax, reason):
    with pytest.raises(UnreadableImage, match=reason):
        read_image(compressed(tmp_path / "a.dcm", syntax, b"junk"))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("overlay", [0, 0x1000, 0xF000])
def test_twelve_bits_in_sixteen(tmp_path, signed, overlay):
    # Old scanners keep overlays in the bits above.
    image = np.where(pattern(), 1000, -900 if signed else 100)
    stored = (image & 0xFFF).astype(np.uint16)
    stored[:9, :9] |= overlay
    header = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(signed)}
    found, _ = read_image(write_dicom(tmp_path / "a.dcm", stored, **header))
    np.testing.assert_array_equal(found[..., 0], image.T)


def test_rescaled_slice_by_slice(tmp_path):
    values = [(1.0, 0), (2.5, -300), (0.125, 40)]
    for number, (slope, intercept) in enumerate(values):
        header = {"position": (0, 0, -3.0 * number), "RescaleSlope": slope, "RescaleIntercept": intercept}
        write_dicom(tmp_path / f"{number}.dcm", IMAGE, **header)
    found, _ = read_image(tmp_path)
    for place, (slope, intercept) in enumerate(reversed(values)):
        np.testing.assert_allclose(found[..., place], IMAGE.T * slope + intercept)


def with_table(path: Path, image: np.ndarray, table: np.ndarray, first: int = 0, bits: int = 16, **header) -> Path:
    data = pydicom.dcmread(write_dicom(path, image, **header))
    entry = pydicom.Dataset()
    entry.add_new(0x00283002, "US", [table.size % 65536, first, bits])
    entry.ModalityLUTType = "US"
    entry.add_new(0x00283006, "OW", table.astype("<u2").tobytes())
    data.ModalityLUTSequence = [entry]
    data.save_as(path)
    return path


@pytest.mark.parametrize("inverted", [False, True])
def test_modality_lut(tmp_path, inverted):
    """PS3.3 C.11.1.1: values below the first and above the last entry are those of the first and the last."""
    stored = np.random.default_rng(0).integers(0, 400, (16, 16)).astype(np.uint16)
    table = np.random.default_rng(1).integers(0, 5000, 256)
    how = {"PhotometricInterpretation": "MONOCHROME1" if inverted else "MONOCHROME2"}
    found, _ = read_image(with_table(tmp_path / "a.dcm", stored, table, first=50, **how))
    expected = table[np.clip(stored.astype(int) - 50, 0, 255)]
    np.testing.assert_array_equal(found[..., 0].T, -expected if inverted else expected)


def test_modality_lut_that_is_none(tmp_path):
    with pytest.raises(UnreadableImage, match="can't be read"):
        read_image(with_table(tmp_path / "a.dcm", IMAGE, np.arange(7), bits=99))


RESCALED = {
    "both": ({"RescaleSlope": 2.5, "RescaleIntercept": -300}, lambda x: 2.5 * x - 300),
    "slope alone": ({"RescaleSlope": 2.5}, lambda x: 2.5 * x),
    "intercept alone": ({"RescaleIntercept": -300}, lambda x: x - 300.0),
    "negative": ({"RescaleSlope": -1, "RescaleIntercept": 0}, lambda x: -1.0 * x),
    "empty": ({"RescaleSlope": "", "RescaleIntercept": ""}, lambda x: x),
}


@pytest.mark.parametrize(("header", "expected"), RESCALED.values(), ids=RESCALED)
def test_rescaled(tmp_path, header, expected):
    found, _ = read_image(write_dicom(tmp_path / "a.dcm", IMAGE, **header))
    np.testing.assert_allclose(found[..., 0].T, expected(IMAGE.astype(float)))


def test_values_of_32_bits_that_would_be_rounded_away(tmp_path):
    near = (2**30 + np.arange(64 * 64).reshape(64, 64) % 50).astype(np.uint32)
    with pytest.raises(UnreadableImage, match="differ by too little to be told apart in 32 bits"):
        read_image(write_dicom(tmp_path / "a.dcm", near))
    # Not when it is rescaled to where they can be told apart.
    found, _ = read_image(write_dicom(tmp_path / "a.dcm", near, RescaleIntercept=-(2**30)))
    np.testing.assert_array_equal(found[..., 0].T, near - 2**30)


def deflated(path: Path, extra: int) -> Path:
    """Packed as a whole, with so many bytes of nothing in it."""
    data = pydicom.dcmread(write_dicom(path, IMAGE))
    data.add_new(0x00091001, "OB", bytes(extra))
    data.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    data.save_as(path)
    return path


def test_deflated_as_a_whole(tmp_path):
    path = deflated(tmp_path / "a.dcm", 2**12)
    np.testing.assert_array_equal(read_image(path)[0][..., 0], IMAGE.T)
    path = deflated(tmp_path / "a.dcm", 2**26)
    assert path.stat().st_size < 2**18
    with pytest.raises(UnreadableImage, match="takes more than 16,859,984 bytes"):
        read_image(path, max_pixels=10_346)


def test_run_lengths_are_bounded_by_their_bytes(tmp_path):
    path = compressed(tmp_path / "a.dcm", uid.RLELossless, bytes(2**19))
    with pytest.raises(UnreadableImage, match=r"is run-length encoded and bigger than 0\.3 MB"):
        read_image(path, max_pixels=4096)


WIDE = np.random.default_rng(0).integers(0, 255, (200, 300)).astype(np.uint8)


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEG2000Lossless, uid.JPEGLSLossless])
def test_compressed_pixels_of_another_size_than_the_header_says(tmp_path, syntax):
    encode = {
        uid.JPEGBaseline8Bit: by_pillow("jpeg"),
        uid.JPEG2000Lossless: by_pillow("jpeg2000", no_jp2=True),
        uid.JPEGLSLossless: by_pyjpegls,
    }[syntax]
    path = compressed(tmp_path / "a.dcm", syntax, encode(WIDE), WIDE[:64, :64])
    with pytest.raises(UnreadableImage, match="of another size than its header says"):
        read_image(path)
    colours = by_pillow("jpeg")(np.dstack([WIDE] * 3))
    with pytest.raises(UnreadableImage, match="of another size than its header says"):
        read_image(compressed(tmp_path / "a.dcm", uid.JPEGBaseline8Bit, colours, WIDE))


def directory(folder: Path) -> Path:
    files = FileSet()
    ids = {"StudyID": "1", "StudyTime": "101010", "AccessionNumber": "", "SeriesNumber": 1, "InstanceNumber": 1}
    files.add(write_dicom(folder / "a.dcm", IMAGE, **ids))
    files.write(folder / "disc")
    return folder / "disc" / "DICOMDIR"


def without_mark(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[132:])
    return path


def enhanced(path: Path) -> Path:
    """One frame, whose geometry is not where that of a slice is."""
    header = {"SOPClassUID": uid.EnhancedMRImageStorage, "NumberOfFrames": 1}
    data = pydicom.dcmread(write_dicom(path, IMAGE, None, None, None, **header))
    data.SharedFunctionalGroupsSequence = [pydicom.Dataset()]
    data.save_as(path)
    return path


def swallowed(path: Path) -> Path:
    """One wrong byte: the modality is as long as all that follows up to the patient's name and number."""
    content = write_dicom(path, IMAGE).read_bytes()
    start = content.index(b"\x08\x00\x60\x00CS\x02\x00MR")
    length = content.index(b"ID-4711") - start
    path.write_bytes(content[: start + 6] + bytes([length]) + content[start + 7 :])
    return path


BAD = {
    "index": (directory, "DICOMDIR is the index of a DICOM folder"),
    "no mark": (
        lambda d: without_mark(write_dicom(d / "a.dcm", IMAGE)),
        "a.dcm is not a DICOM file: it lacks the prefix",
    ),
    "enhanced, no groups": (lambda d: enhanced(d / "a.dcm"), "1 frames and functional groups of 0"),
    "bits on top": (lambda d: write_dicom(d / "a.dcm", IMAGE << 4, BitsStored=12, HighBit=15), "not in the lowest"),
    "orientation, long": (
        lambda d: write_dicom(d / "a.dcm", IMAGE, orientation=(1.5, 0, 0, 0, 0.6, 0)),
        "ImageOrientationPatient whose axes are not orthonormal",
    ),
    "orientation, skewed": (
        lambda d: write_dicom(d / "a.dcm", IMAGE, orientation=(1, 0, 0, 0.6, 0.8, 0)),
        "ImageOrientationPatient whose axes are not orthonormal",
    ),
    "one wrong byte": (lambda d: swallowed(d / "a.dcm"), "modality no code"),
}


@pytest.mark.parametrize(("make", "reason"), BAD.values(), ids=BAD)
def test_reason(tmp_path, make, reason):
    with pytest.raises(UnreadableImage, match=reason) as caught:
        read_image(make(tmp_path))
    assert PATIENT not in str(caught.value)


# what is different in one slice of a sagittal series, why it is refused
SERIES = {
    "patient": ({"PatientID": "another"}, "differ in PatientID"),
    "study": ({"StudyInstanceUID": "1.9"}, "differ in StudyInstanceUID"),
    "scale": ({"PhotometricInterpretation": "MONOCHROME1"}, "differ in PhotometricInterpretation"),
    "frame of reference": ({"FrameOfReferenceUID": "1.9"}, "differ in FrameOfReferenceUID"),
}


@pytest.mark.parametrize(("change", "reason"), SERIES.values(), ids=SERIES)
def test_slices_that_do_not_belong_together(tmp_path, change, reason):
    for number in range(3):
        header = {"position": (3.0 * number, 0, 0), "orientation": (0, 1, 0, 0, 0, -1)}
        write_dicom(tmp_path / f"{number}.dcm", IMAGE, **header, **(change if number == 1 else {}))
    with pytest.raises(UnreadableImage, match=reason):
        read_image(tmp_path)


def test_series_without_orientation_has_no_order(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / f"{number}.dcm", IMAGE, position=(3.0 * number, 0, 0), orientation=None)
    with pytest.raises(UnreadableImage, match="have no ImageOrientationPatient: their order is not known"):
        read_image(tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_headers_end_in_a_reason(tmp_path, seed):
    content = bytearray(write_dicom(tmp_path / "a.dcm", IMAGE).read_bytes())
    random = np.random.default_rng(seed)
    for place in random.integers(132, len(content) - IMAGE.nbytes, 4):
        content[place] = random.integers(0, 256)
    (tmp_path / "a.dcm").write_bytes(content)
    reason = ""
    try:
        read_image(tmp_path / "a.dcm")
    except UnreadableImage as error:
        reason = str(error)
    assert PATIENT not in reason
