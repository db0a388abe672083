"""Enhanced MR objects, as scanners of today write them."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from enhanced import AXIAL, stack, write_enhanced
from pydicom import uid
from pydicom.encaps import encapsulate
from slices import PATIENT, pattern, write_dicom
from test_dicom import by_pillow

from monai_kd.inference import InputFiles
from monai_kd.inference.input_volumes import InputVolumes
from monai_kd.io import UnreadableImage, read_image, read_volume
from monai_kd.io.dicom_frames import file_and_volume

SAGITTAL = (0, 1, 0, 0, 0, -1)


def test_one_volume_with_the_geometry_of_its_frames(tmp_path):
    """Frames out of order, each scaled by itself; geometry as of slices in files of their own, and as of highdicom."""
    frames = [{**each, "slope": 1.0 + number, "intercept": -number} for number, each in enumerate(stack(5))]
    shuffled = [frames[index] for index in (3, 0, 4, 1, 2)]
    image, meta = read_image(write_enhanced(tmp_path / "a.dcm", shuffled))
    for number, frame in enumerate(frames):
        expected = frame["image"].T * (1.0 + number) - number
        np.testing.assert_allclose(image[..., number], expected, rtol=1e-6)
        header = {"RescaleSlope": 1.0 + number, "RescaleIntercept": -number}
        write_dicom(tmp_path / "slices" / f"{number}.dcm", frame["image"], position=frame["position"], **header)
    slices, of_slices = read_image(tmp_path / "slices")
    np.testing.assert_array_equal(image, slices)
    np.testing.assert_allclose(meta["affine"], of_slices["affine"])
    np.testing.assert_allclose(meta["spacing"], [0.75, 0.5, 3])
    highdicom = pytest.importorskip("highdicom")
    volume = highdicom.imread(tmp_path / "a.dcm").get_volume(rtol=1e-3)
    corners = np.array([[0, 0, 0, 1], [15, 0, 0, 1], [0, 19, 0, 1], [0, 0, 4, 1]], dtype=float)
    # highdicom's axes are slices, rows, columns, and its coordinates LPS.
    theirs = volume.affine @ corners[:, [2, 1, 0, 3]].T
    if theirs[2, 0] > theirs[2, 3]:  # it may count slices the other way round
        theirs = theirs[:, [3, 1, 2, 0]]
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ theirs[:, [0, 3]], (meta["affine"] @ corners.T)[:, [0, 3]])


def of_a_kind(**varying) -> list:
    """Two volumes that differ in one value."""
    ((name, values),) = varying.items()
    return [frame for number, value in enumerate(values) for frame in stack(3, seed=number, **{name: value})]


SEVERAL = {
    "phases": (of_a_kind(phase=[1, 2]), ["phase-1", "phase-2"]),
    "echoes": (of_a_kind(echo=[11.5, 98.0]), ["echo-1", "echo-2"]),
    "echoes, the longer one first": (of_a_kind(echo=[98.0, 11.5])[::-1], ["echo-1", "echo-2"]),
    "components": (of_a_kind(component=["MAGNITUDE", "PHASE"]), ["component-1", "component-2"]),
    "b-values": (of_a_kind(b_value=[0.0, 1000.0]), ["b-value-1", "b-value-2"]),
    "stacks": (of_a_kind(stack=["DOE", "2"]), ["stack-1", "stack-2"]),
    "orientations without stacks": (
        [{**f, "orientation": AXIAL} for f in stack(3)]
        + [{**f, "position": (3.0 * i, 0, 0), "orientation": SAGITTAL} for i, f in enumerate(stack(3, seed=1))],
        ["stack-1", "stack-2"],
    ),
    "stacks and phases": (
        [f for s in "12" for p in (1, 2) for f in stack(2, seed=2 * int(s) + p, stack=s, phase=p)],
        ["stack-1_phase-1", "stack-1_phase-2", "stack-2_phase-1", "stack-2_phase-2"],
    ),
}


@pytest.mark.parametrize(("frames", "names"), SEVERAL.values(), ids=SEVERAL)
def test_several_volumes(tmp_path, frames, names):
    path = write_enhanced(tmp_path / "in" / "exam.dcm", frames)
    found = InputFiles(tmp_path / "in", tmp_path / "out")
    assert [image.label for image in found.images] == [f"exam.dcm/{name}" for name in names]
    assert [image.name for image in found.images] == [f"exam_{name}" for name in names]
    assert [image.label for image in InputFiles(path, tmp_path / "out").images] == [i.label for i in found.images]
    count = len(frames) // len(names)
    seen = [read_image(item["image"])[0] for item in found]
    assert {image.shape for image in seen} == {(16, 20, count)}
    # Each frame is in exactly one of them.
    expected = {frame["image"].tobytes() for frame in frames}
    assert {
        np.ascontiguousarray(image[..., i].T).astype(np.uint16).tobytes() for image in seen for i in range(count)
    } == (expected)
    with pytest.raises(
        UnreadableImage, match=rf"holds {len(names)} volumes, {names[0]}, .*exam\.dcm/{names[0]}"
    ) as caught:
        read_image(path)
    assert "DOE" not in str(caught.value)
    with pytest.raises(UnreadableImage, match="holds no volume phase-9"):
        read_image(path / "phase-9")


def test_the_first_volume_by_number_has_the_shorter_echo(tmp_path):
    frames = of_a_kind(echo=[98.0, 11.5])
    path = write_enhanced(tmp_path / "exam.dcm", frames)
    np.testing.assert_array_equal(read_image(path / "echo-1")[0][..., 0], frames[3]["image"].T)


def test_volumes_stand_for_themselves(tmp_path):
    """One of them has a gap; beside them lie a volume of the same series and name, and slices of another."""
    whole, broken = stack(4, phase=1), stack(4, seed=1, phase=2)
    broken[3]["position"] = (4, 5, 20.0)
    write_enhanced(tmp_path / "in" / "exam.dcm", whole + broken)
    write_enhanced(tmp_path / "in" / "exam", stack(2, seed=3))
    for number in range(3):
        write_dicom(tmp_path / "in" / f"{number}.dcm", stack(1)[0]["image"], (0, 0, 2.0 * number), series="1.7")
    for found in (InputFiles(tmp_path / "in", "out"), InputVolumes(tmp_path / "in", "out", ["t1"])):
        labels = {image.label: image.name for image in found.images}
        volumes = {f"exam.dcm/phase-{number}": f"exam_phase-{number}" for number in (1, 2)}
        assert labels == {"in": "in", "exam": "exam", **volumes}
        items = {item["file"]: item["image"] for item in found}
        assert read_volume(items["exam.dcm/phase-1"], channels=1)[0].shape == (1, 16, 20, 4)
        assert read_volume(items["exam"], channels=1)[0].shape == (1, 16, 20, 2)
        assert read_volume(items["in"], channels=1)[0].shape == (1, 16, 20, 3)
        with pytest.raises(UnreadableImage, match="not evenly spaced"):
            read_volume(items["exam.dcm/phase-2"], channels=1)


def test_compressed_frames(tmp_path):
    images = [np.where(np.roll(pattern(), 3 * n, 0), 40000, 30).astype(np.uint16) for n in range(3)]
    frames = [{"image": image, "position": (0, 0, 2.0 * n)} for n, image in enumerate(images)]
    path = write_enhanced(tmp_path / "a.dcm", frames)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = uid.JPEG2000Lossless

    def pack(codestreams: list[bytes]) -> None:
        data.PixelData = encapsulate(codestreams)
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
        data.save_as(path)

    encode = by_pillow("jpeg2000", no_jp2=True)
    pack([encode(image) for image in images])
    found, _ = read_image(path)
    np.testing.assert_array_equal(found, np.stack([image.T for image in images], -1))
    pack([encode(images[0]), encode(images[1]), encode(images[2][:32])])
    with pytest.raises(UnreadableImage, match="of another size than its header says"):
        read_image(path)


def test_frames_are_counted_before_they_are_read(tmp_path):
    path = write_enhanced(tmp_path / "a.dcm", stack(5))
    with pytest.raises(UnreadableImage, match=r"1,600 pixels"):
        read_image(path, max_pixels=1500)


BAD = {
    "fewer groups than frames": ({"NumberOfFrames": 4}, "4 frames and functional groups of 3"),
    "no groups of frames": ({"PerFrameFunctionalGroupsSequence": []}, "3 frames and functional groups of 0"),
    "another modality": ({"Modality": "CT"}, "of modality CT"),
    "segmentation": ({"Modality": "SEG"}, "is a segmentation"),
    "mosaic": ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "a.dcm is a Siemens mosaic.*dcm2niix"),
}


@pytest.mark.parametrize(("header", "reason"), BAD.values(), ids=BAD)
def test_reason(tmp_path, header, reason):
    with pytest.raises(UnreadableImage, match=reason) as caught:
        read_image(write_enhanced(tmp_path / "a.dcm", stack(3), **header))
    assert PATIENT not in str(caught.value)


def test_mosaic_of_classic_files(tmp_path):
    kinds = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    path = write_dicom(tmp_path / "a.dcm", stack(1)[0]["image"], ImageType=kinds)
    with pytest.raises(UnreadableImage, match="a Siemens mosaic, whose slices are tiles of one picture"):
        read_image(path)


def test_multi_frame_without_positions(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((6, 4), np.uint16), NumberOfFrames=3, Rows=2)
    with pytest.raises(UnreadableImage, match=r"multi-frame .3 frames. without the positions of its frames"):
        read_image(path)


def test_a_file_in_a_folder_is_no_volume(tmp_path):
    (tmp_path / "folder").mkdir()
    assert file_and_volume(tmp_path / "folder" / "a.dcm") == (tmp_path / "folder" / "a.dcm", "")
