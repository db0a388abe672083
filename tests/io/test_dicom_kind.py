"""What headers say of the kind of an image."""

import pytest
from enhanced import items, stack, write_enhanced
from pydicom import Dataset
from slices import PATIENT, grey, pattern, write_dicom

from monai_kd.io import UnreadableImage, VolumeReader, read_source
from monai_kd.io.dicom_kind import kind_doubts, other_kind

# Description, other header values, what is said of the sequence, whether a contrast agent is missed.
HEADERS = [
    ("AX T1 +C", {}, "", False),
    ("t1_mprage_sag_p2_iso KM", {}, "", False),
    ("T1 SE TRA POST GD", {}, "", False),
    ("t1_tse_tra", {}, "", True),
    ("t1_tse_tra", {"ContrastBolusAgent": "Gadovist"}, "", False),
    ("t1_tse_tra", {"ContrastBolusAgent": ""}, "", True),
    ("AX T1 FLAIR POST", {}, "", False),
    ("BRAVO", {"ContrastBolusAgent": "GADAVIST"}, "", False),
    ("t2_tse_tra", {}, "a T2-weighted sequence", True),
    ("t2_space_dark-fluid_sag", {"ImageType": ["DERIVED", "PRIMARY", "MPR"]}, "a FLAIR sequence", True),
    ("Ax T2 FLAIR", {"ProtocolName": "BRAIN W/WO T1 T2", "EchoTime": 120.0}, "a FLAIR sequence", True),
    ("Ax", {"ProtocolName": "BRAIN W/WO T1 T2", "EchoTime": 120.0}, "an echo time above 60 ms", True),
    ("Ax", {"ProtocolName": "BRAIN W/WO T1 T2", "EchoTime": 9.0}, "", True),
    ("t1 cor", {"ProtocolName": "HEAD T2 FLAIR GD"}, "", False),
    ("T1 POSTERIOR FOSSA", {}, "", True),
    ("AX T2 FLAIR", {}, "a FLAIR sequence", True),
    ("Ax T2 POST", {}, "a T2-weighted sequence", False),
    ("ep2d_diff_3scan_trace", {}, "a diffusion sequence", True),
    ("ADC (10^-6 mm²/s)", {}, "a diffusion sequence", True),
    ("SWI_Images", {}, "a susceptibility-weighted sequence", True),
    ("T2* HEMO", {}, "a susceptibility-weighted sequence", True),
    ("TOF_3D_multi-slab", {}, "an angiographic sequence", True),
    ("3-plane localizer", {}, "a localiser", True),
    ("AX PERFUSION", {}, "a perfusion sequence", True),
    ("", {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]}, "a diffusion sequence", False),
    ("", {"SequenceName": "*tse2d1_11", "EchoTime": 98.0}, "an echo time above 60 ms", False),
    ("AX T1 POST", {"EchoTime": 98.0}, "", False),
    ("", {"EchoTime": 2.9}, "", False),
    ("T1 KNEE", {"BodyPartExamined": "KNEE"}, "another part of the body", True),
    ("T1 GD", {"BodyPartExamined": "L SPINE"}, "another part of the body", False),
    ("T1 GD", {"BodyPartExamined": "BRAIN"}, "", False),
    ("T1 GD", {"BodyPartExamined": "HEAD AND NECK"}, "", False),
    ("", {}, "", False),
    ("PDE5 POST T1", {}, "", False),
    ("AX FSE", {"AcquisitionContrast": "T2"}, "a T2-weighted sequence", True),
    ("AX", {"AcquisitionContrast": "FLUID_ATTENUATED"}, "a FLAIR sequence", True),
    ("AX", {"AcquisitionContrast": "PROTON_DENSITY"}, "a proton-density sequence", True),
    ("AX", {"AcquisitionContrast": "STIR"}, "a STIR sequence", True),
    ("AX", {"AcquisitionContrast": "T1", "ProtocolName": "T2 GD"}, "", False),
    ("AX", {"AcquisitionContrast": "UNKNOWN", "ProtocolName": "T1 GD"}, "", False),
    ("AX T1", {"ContrastBolusAgentSequence": items(CodeMeaning="Gadobutrol")}, "", False),
    ("AX T1", {"ContrastBolusAgentSequence": []}, "", True),
]


@pytest.mark.parametrize(("description", "values", "kind", "no_agent"), HEADERS)
def test_headers(description, values, kind, no_agent):
    data = Dataset()
    data.SeriesDescription = description
    for name, value in values.items():
        setattr(data, name, value)
    said = other_kind(data)
    assert kind in said
    assert bool(said) == bool(kind)
    assert bool(kind_doubts(data)) == no_agent


def test_damaged_values_are_neither_an_error_nor_quoted(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", grey(pattern()), SeriesDescription=f"T2 of {PATIENT}")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"T2 of", b"T2\xff\xfe "))
    source = read_source(path)
    assert source.unfit
    assert source.warnings == ("the header names a T2-weighted sequence", "the header names no contrast agent")
    assert source.meta()["unfit"] == 1


@pytest.mark.parametrize(
    ("frame", "header", "said"),
    [
        ({"echo": 100.0}, {}, "the header gives an echo time above 60 ms, which no T1-weighted sequence has"),
        ({"echo": 9.0}, {}, ""),
        ({"b_value": 1000.0}, {}, "the header names a diffusion sequence"),
        ({"b_value": 0.0}, {}, ""),
        ({"contrast": "T2"}, {}, "the header names a T2-weighted sequence"),
        ({"contrast": "T1"}, {}, ""),
        ({}, {"AcquisitionContrast": "PERFUSION"}, "the header names a perfusion sequence"),
    ],
)
def test_enhanced_objects_say_it_in_their_functional_groups(frame, header, said, tmp_path):
    source = read_source(write_enhanced(tmp_path / "a.dcm", stack(4, **frame), SeriesDescription="AX FSE", **header))
    assert source.unfit == bool(said)
    assert source.warnings == (*([said] if said else []), "the header names no contrast agent")


def test_a_header_that_says_nothing_raises_no_doubt(tmp_path):
    source = read_source(write_dicom(tmp_path / "a.dcm", grey(pattern())))
    assert (source.unfit, source.warnings) == (False, ())
    assert "unfit" not in source.meta()


def test_networks_of_volumes_take_any_modality_and_part_of_the_body(tmp_path):
    for number in range(3):
        write_dicom(
            *(tmp_path / f"{number}.dcm", grey(pattern())),
            position=(0, 0, 3.0 * number),
            **{"Modality": "CT", "BodyPartExamined": "ABDOMEN", "SeriesDescription": "T2 of the liver"},
        )
    with pytest.raises(UnreadableImage, match="the network is for MR images of heads"):
        read_source(tmp_path)
    source = VolumeReader(channels=1).source([tmp_path])
    assert source.pixels.shape == (1, 64, 64, 3)
    assert (source.unfit, source.warnings) == (False, ())
    # Also as files, which inference lists one by one.
    assert VolumeReader(channels=1).source(sorted(tmp_path.iterdir())).warnings == ()
    (tmp_path / "other").mkdir()
    write_dicom(tmp_path / "other" / "a.dcm", grey(pattern()), Modality="SEG")
    with pytest.raises(UnreadableImage, match="is a segmentation"):
        VolumeReader(channels=1).source([tmp_path / "other" / "a.dcm"])
