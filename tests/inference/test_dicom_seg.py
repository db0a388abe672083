"""DICOM segmentations, read back by highdicom: the mask, and what it refers to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from enhanced import write_enhanced
from slices import PATIENT, grey, pattern, write_dicom

from monai_kd.inference import read_source
from monai_kd.inference.dicom_seg import NoSegmentation, write_dicom_seg

hd = pytest.importorskip("highdicom", reason="needs monai_kd[dicom]")

FRAME = "1.2.826.0.1.3680043.8.498.1"
OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)  # rows run to the feet; the slices lie along (-0.6, 0.8, 0)
ALONG = np.cross(OBLIQUE[:3], OBLIQUE[3:])


def series(folder: Path, count: int = 4) -> list[str]:
    """Slices in another order than their names; gives their SOP instances in the order of their positions."""
    paths = [
        write_dicom(
            folder / f"{(7 * number) % count}.dcm",
            grey(pattern(48, 40)),
            position=tuple(10.0 + 5 * number * ALONG),
            orientation=OBLIQUE,
            FrameOfReferenceUID=FRAME,
        )
        for number in range(count)
    ]
    return [str(pydicom.dcmread(path).SOPInstanceUID) for path in paths]


def datasets(path: Path) -> tuple[pydicom.Dataset, ...]:
    return read_source(path).datasets


def volume() -> np.ndarray:
    """(columns, rows, slices): another mask in each slice, none in the second."""
    masks = np.stack([np.roll(pattern(48, 40), number, axis=0) for number in range(4)])
    masks[1] = False
    return masks.transpose(2, 1, 0).astype(np.uint8)


def test_mask_reads_back_and_refers_to_its_source(tmp_path):
    instances = series(tmp_path / "in")
    write_dicom_seg(volume(), datasets(tmp_path / "in"), tmp_path / "seg.dcm", "a network")
    found = hd.seg.segread(tmp_path / "seg.dcm")
    with_tumour = [instances[number] for number in (0, 2, 3)]
    frames = found.get_pixels_by_source_instance(with_tumour, combine_segments=True)
    np.testing.assert_array_equal(frames, volume()[:, :, [0, 2, 3]].transpose(2, 1, 0))
    (referred,) = found.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == "1.2.3" != found.SeriesInstanceUID
    assert {str(item.ReferencedSOPInstanceUID) for item in referred.ReferencedInstanceSequence} == set(instances)
    assert found.FrameOfReferenceUID == FRAME
    assert found.StudyInstanceUID == "1.2"
    assert found.PatientName == PATIENT
    segment = found.SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "a network"
    assert "research" in found.SeriesDescription


@pytest.mark.parametrize(("name", "written"), [("x" * 80, "x" * 64), ("сеть\\a", "????/a")])
def test_names_of_networks_that_dicom_has_no_room_for(name, written, tmp_path):
    series(tmp_path / "in")
    write_dicom_seg(volume(), datasets(tmp_path / "in"), tmp_path / "seg.dcm", name)
    found = pydicom.dcmread(tmp_path / "seg.dcm")
    (algorithm,) = found.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == found.ManufacturerModelName == written


def test_frames_lie_where_the_source_lies(tmp_path):
    series(tmp_path / "in")
    write_dicom_seg(volume(), datasets(tmp_path / "in"), tmp_path / "seg.dcm", "a network")
    found = pydicom.dcmread(tmp_path / "seg.dcm")
    positions = [
        tuple(map(float, item.PlanePositionSequence[0].ImagePositionPatient))
        for item in found.PerFrameFunctionalGroupsSequence
    ]
    expected = [tuple(10.0 + 5 * number * ALONG) for number in (0, 2, 3)]
    np.testing.assert_allclose(sorted(positions), sorted(expected), atol=1e-6)
    shared = found.SharedFunctionalGroupsSequence[0]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == list(OBLIQUE)
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.5, 0.75]


def test_series_through_the_bundle(tmp_path, segment):
    instances = series(tmp_path / "in")
    row = segment(tmp_path / "in", dicom_seg=True)["in"]
    assert (row["status"], row["dicom_seg"]) == ("ok", "in_seg.dcm")
    frames = hd.seg.segread(tmp_path / "out" / "in_seg.dcm").get_pixels_by_source_instance(
        instances, combine_segments=True
    )
    mask = np.asarray(nib.load(tmp_path / "out" / row["mask"]).dataobj)
    assert mask.sum() > 0
    np.testing.assert_array_equal(frames, mask.transpose(2, 1, 0))


def test_a_volume_of_an_enhanced_object(tmp_path, segment):
    """Of two phases the second: the segmentation refers to the object and to the frames of that phase."""
    planes = [grey(np.roll(pattern(), number, axis=0)) for number in range(3)]
    frames = [
        {"image": plane.astype(np.uint16), "position": (0, 0, 4.0 * number), "phase": phase}
        for number, plane in enumerate(planes)
        for phase in (1, 2)
    ]
    path = write_enhanced(tmp_path / "in" / "a.dcm", frames[::-1])
    rows = segment(tmp_path / "in", dicom_seg=True)
    assert {name: row["dicom_seg"] for name, row in rows.items()} == {
        "a.dcm/phase-1": "a_phase-1_seg.dcm",
        "a.dcm/phase-2": "a_phase-2_seg.dcm",
    }
    mask = np.asarray(nib.load(tmp_path / "out" / rows["a.dcm/phase-2"]["mask"]).dataobj)
    np.testing.assert_array_equal(mask, np.stack([plane.T > 500 for plane in planes], -1))
    found = hd.seg.segread(tmp_path / "out" / "a_phase-2_seg.dcm")
    source = pydicom.dcmread(path)
    # In the file, frame 1 is the last plane of phase 2, and frame 5 the first.
    pixels = found.get_pixels_by_source_frame(source.SOPInstanceUID, [5, 3, 1], combine_segments=True)
    np.testing.assert_array_equal(pixels, mask.transpose(2, 1, 0))
    assert found.NumberOfFrames == 3
    # The object is not changed by it.
    sources = read_source(path / "phase-1").datasets
    write_dicom_seg(mask, sources, tmp_path / "again.dcm", "a network")
    assert sources[0].whole.NumberOfFrames == len(sources[0].whole.PerFrameFunctionalGroupsSequence) == 6


def test_single_slice_without_any_patient(tmp_path, segment):
    gone = dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "StudyDate"))
    write_dicom(tmp_path / "a.dcm", grey(pattern()), FrameOfReferenceUID=FRAME, **gone)
    row = segment(tmp_path / "a.dcm", dicom_seg=True)["a.dcm"]
    found = hd.seg.segread(tmp_path / "out" / row["dicom_seg"])
    assert found.pixel_array.sum() == float(row["area_px"])
    assert not found.PatientName
    assert not found.PatientID


def test_frames_by_hand(tmp_path):
    """Without highdicom: each frame's bits, and the file that it says it was made of."""
    instances = series(tmp_path / "in")
    write_dicom_seg(volume(), datasets(tmp_path / "in"), tmp_path / "seg.dcm", "a network")
    found = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (found.SegmentationType, found.BitsAllocated, found.NumberOfFrames) == ("BINARY", 1, 3)
    bits = np.unpackbits(np.frombuffer(found.PixelData, np.uint8), bitorder="little")
    frames = bits[: 3 * found.Rows * found.Columns].reshape(3, found.Rows, found.Columns)
    for frame, groups in zip(frames, found.PerFrameFunctionalGroupsSequence, strict=True):
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        place = instances.index(source.ReferencedSOPInstanceUID)
        np.testing.assert_array_equal(frame, volume()[..., place].T)


def test_terms_and_colours_of_segments(tmp_path):
    """By DICOM's own elements: SNOMED CT terms, and the colour in CIELab, converted back by highdicom."""
    series(tmp_path / "in")
    write_dicom_seg(volume(), datasets(tmp_path / "in"), tmp_path / "one.dcm", "a network")
    names = ["necrotic core", "peritumoural oedema", "glioma"]
    masks = np.stack([volume(), np.roll(volume(), 1, axis=0), np.roll(volume(), 2, axis=0)])
    write_dicom_seg(masks, datasets(tmp_path / "in"), tmp_path / "three.dcm", "a network", names)
    found = {}
    for name in ("one", "three"):
        for segment in pydicom.dcmread(tmp_path / f"{name}.dcm").SegmentSequence:
            (kind,), (region,) = segment.SegmentedPropertyTypeCodeSequence, segment.AnatomicRegionSequence
            assert (region.CodeValue, region.CodingSchemeDesignator) == ("12738006", "SCT")
            assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
            assert kind.CodingSchemeDesignator == "SCT"
            colour = hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue)
            found[segment.SegmentLabel] = kind.CodeValue, colour.to_rgb()
    expected = {
        "tumour": ("108369006", (255, 82, 82)),
        "necrotic core": ("6574001", (230, 159, 0)),
        "peritumoural oedema": ("79654002", (86, 180, 233)),
        "glioma": ("108369006", (0, 158, 115)),
    }
    assert found.keys() == expected.keys()
    for name, (code, colour) in expected.items():
        assert found[name][0] == code
        np.testing.assert_allclose(found[name][1], colour, atol=2)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("count", [1, 4])
def test_validator_finds_no_errors(tmp_path, count):
    series(tmp_path / "in", count)
    mask = volume()[..., :count]
    write_dicom_seg(mask, datasets(tmp_path / "in"), tmp_path / "seg.dcm", "a network")
    done = subprocess.run(["dciodvfy", str(tmp_path / "seg.dcm")], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert "Segmentation" in said  # it knows what it looks at
    assert [line for line in said.splitlines() if line.startswith("Error")] == []


# alphabets of the header, the name in its bytes
NAMES = {
    "umlauts": ("ISO_IR 100", "Müller^Jürgen".encode("latin-1")),
    "umlauts, not declared": (None, "Müller^Jürgen".encode("latin-1")),
    "Chinese, UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小东".encode()),
    "Chinese, GB18030": ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
    # as in annex K of DICOM PS3.5
    "Chinese, GB2312": ("\\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"),
    # as in annex H
    "Japanese": ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
}


@pytest.mark.parametrize(("alphabets", "stored"), NAMES.values(), ids=NAMES)
def test_names_in_every_alphabet(tmp_path, alphabets, stored):
    stored += b" " * (len(stored) % 2)
    placeholder = "N" * len(stored)
    item = pydicom.Dataset()
    item.PatientID = placeholder  # text in a sequence
    header = {"PatientName": placeholder, "OtherPatientIDsSequence": [item], "FrameOfReferenceUID": FRAME}
    header |= {} if alphabets is None else {"SpecificCharacterSet": alphabets.split("\\")}
    path = write_dicom(tmp_path / "a.dcm", grey(pattern()), **header)
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), stored))
    write_dicom_seg(pattern().T.astype(np.uint8), datasets(path), tmp_path / "seg.dcm", "a network")
    found = pydicom.dcmread(tmp_path / "seg.dcm")
    assert found.get("SpecificCharacterSet") == pydicom.dcmread(path).get("SpecificCharacterSet")
    assert (tmp_path / "seg.dcm").read_bytes().count(stored.rstrip()) == 2


# A header that highdicom refuses, quoting it: what is said instead.
STRANGE = {
    "StudyDate": "2020",
    "StudyTime": "DOE^JANE",
    "PatientBirthDate": "1.2.70",
    "PatientSex": "JANE",
    "SOPInstanceUID": "no identifier",
    "StudyInstanceUID": "01.abc",
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_header_is_named_and_not_quoted(tmp_path, name):
    path = write_dicom(tmp_path / "a.dcm", grey(pattern()), FrameOfReferenceUID=FRAME, **{name: STRANGE[name]})
    with pytest.raises(NoSegmentation, match=f"in the source, {name} is not as DICOM wants it") as caught:
        write_dicom_seg(pattern().T, datasets(path), tmp_path / "seg.dcm", "a network")
    assert STRANGE[name] not in str(caught.value)
    assert not (tmp_path / "seg.dcm").exists()


@pytest.mark.parametrize(
    "missing",
    [
        *("FrameOfReferenceUID", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"),
        *("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID"),
    ],
)
def test_source_that_can_not_be_referred_to_is_said(tmp_path, segment, missing):
    path = write_dicom(tmp_path / "a.dcm", grey(pattern()), FrameOfReferenceUID=FRAME)
    data = pydicom.dcmread(path)
    del data[missing]
    data.save_as(path)
    row = segment(tmp_path / "a.dcm", dicom_seg=True)["a.dcm"]
    assert row["status"] == "ok"
    assert f"no DICOM SEG: the source has no {missing}" in row["reason"]
    assert row["dicom_seg"] == ""
    assert (tmp_path / "out" / row["mask"]).is_file()
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_nothing_is_written_without_a_tumour_or_unasked_or_for_other_files(tmp_path, segment):
    folder = tmp_path / "in"
    write_dicom(folder / "a.dcm", grey(pattern()), FrameOfReferenceUID=FRAME)
    nib.save(nib.Nifti1Image(grey(pattern()).T[..., None], np.eye(4)), folder / "b.nii.gz")
    rows = segment(folder, dicom_seg=True, smallest_area_mm2=1e6)
    assert {row["tumour"] for row in rows.values()} == {"no"}
    assert all(row["dicom_seg"] == "" for row in rows.values())
    assert segment(folder)["a.dcm"]["dicom_seg"] == ""
    assert segment(folder, dicom_seg=True)["b.nii.gz"]["dicom_seg"] == ""
    (tmp_path / "out" / "a_seg.dcm").unlink()
    assert not list((tmp_path / "out").glob("*.dcm"))


def test_empty_mask_is_refused(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", grey(pattern()), FrameOfReferenceUID=FRAME)
    with pytest.raises(NoSegmentation, match="empty mask"):
        write_dicom_seg(np.zeros((64, 64), np.uint8), datasets(path), tmp_path / "seg.dcm", "test")


def test_without_highdicom_it_is_said_before_anything_runs(tmp_path, segment, monkeypatch):
    write_dicom(tmp_path / "a.dcm", grey(pattern()))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError) as caught:
        segment(tmp_path / "a.dcm", dicom_seg=True)
    error: BaseException = caught.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert "dicom_seg needs highdicom: pip install" in str(error)
