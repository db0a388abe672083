"""Numbers, pictures and messages of a run."""

import csv
import errno
import logging
import os
import pydoc
import threading
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from slices import PATIENT, grey, pattern, write_dicom

from monai_kd.inference import DropSmallAreasd, measure
from monai_kd.inference.file_report import MOST_WAITING
from monai_kd.inference.measures import finding_of
from monai_kd.inference.overlay import draw_overlay
from monai_kd.inference.results import result_rows

SPACING = np.array([0.5, 0.8, 3.0])


def test_numbers_of_a_volume():
    mask = np.zeros((10, 12, 4), np.uint8)
    mask[2:5, 6:8, 1] = 1  # 6 pixels
    mask[3:7, 5:8, 2] = 1  # 12 pixels
    probability = np.full(mask.shape, 0.1)
    probability[mask > 0] = 0.7
    probability[3, 5, 2] = 0.95
    probability[0, 0, 0] = 0.4
    assert measure(mask, probability, SPACING) == {
        "tumour": "yes",
        "slices": 4,
        "slices_with_tumour": 2,
        "largest_slice": 2,
        "area_px": 12,
        "area_mm2": pytest.approx(12 * 0.4),
        "volume_mm3": pytest.approx(18 * 0.4 * 3),
        **{"x0": 2, "x1": 6, "y0": 5, "y1": 7, "z0": 1, "z1": 2},
        "mean_probability": pytest.approx((17 * 0.7 + 0.95) / 18, abs=1e-4),
        "highest_probability": 0.95,
    }


def test_numbers_without_spacing_and_without_tumour():
    mask = np.eye(6, dtype=np.uint8)
    found = measure(mask, mask * 0.8, np.full(3, np.nan))
    assert found["area_px"] == 6
    assert not {"area_mm2", "volume_mm3"} & set(found)
    assert measure(0 * mask, mask * 0.3, SPACING) == {
        "tumour": "no",
        "slices": 1,
        "slices_with_tumour": 0,
        "highest_probability": 0.3,
    }


def test_table_of_a_slice(tmp_path, segment):
    # columns 20 to 29 and rows 7 to 10 of 64 × 64
    truth = np.zeros((64, 64), bool)
    truth[7:11, 20:30] = True
    write_dicom(tmp_path / "a.dcm", grey(truth), spacing=(0.5, 0.75))
    row = segment(tmp_path / "a.dcm")["a.dcm"]
    expected = {
        **{"status": "ok", "reason": "", "tumour": "yes", "slices": "1", "slices_with_tumour": "1"},
        **{"area_px": "40", "area_mm2": "15.0", "volume_mm3": "", "x0": "20", "x1": "29", "y0": "7", "y1": "10"},
        **{"z0": "0", "z1": "0", "largest_slice": "0", "mean_probability": "1.0", "highest_probability": "1.0"},
        **{"mask": "a_mask.nii.gz", "overlay": ""},
    }
    assert {name: row[name] for name in expected} == expected


def test_picture_has_pixels_only(tmp_path, segment):
    Image.fromarray(np.where(pattern(), 220, 30).astype(np.uint8)).save(tmp_path / "a.png")
    row = segment(tmp_path / "a.png")["a.png"]
    assert (row["area_px"], row["area_mm2"], row["volume_mm3"]) == (str(pattern().sum()), "", "")
    assert "spacing not known" in row["reason"]


def test_names_that_are_no_text_or_look_like_equations(tmp_path, segment, capfd):
    picture = Image.fromarray(np.where(pattern(), 220, 30).astype(np.uint8))
    (tmp_path / "in").mkdir()
    for name in (b"caf\xe9.png", b"costs $^$.png"):
        picture.save(tmp_path / "in" / os.fsdecode(name))
    rows = segment(tmp_path / "in", overlays=True)
    assert {name: row["status"] for name, row in rows.items()} == {"caf?.png": "ok", "costs $^$.png": "ok"}
    assert len(list((tmp_path / "out").glob("*_overlay.png"))) == 2
    assert "Logging error" not in "".join(capfd.readouterr())


def test_no_tumour_found(tmp_path, segment, caplog):
    image = np.full((64, 64, 2), 10, np.int16)
    image[5, 5] = 1000  # one pixel: bright, but not in the whole range of what follows
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "a.nii.gz")
    with caplog.at_level(logging.INFO):
        # Half the size: the only bright pixel is averaged away.
        row = segment(tmp_path / "a.nii.gz", image_size=32, threshold=0.9, overlays=True)["a.nii.gz"]
    assert (row["status"], row["tumour"], row["area_px"], row["mean_probability"]) == ("ok", "no", "", "")
    assert "no tumour found" in caplog.text
    assert not np.asanyarray(nib.load(tmp_path / "out" / "a_mask.nii.gz").dataobj).any()
    assert (tmp_path / "out" / "a_overlay.png").stat().st_size > 1000


def test_bad_files_are_told_and_the_others_go_on(tmp_path, segment, caplog):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(np.where(pattern(), 220, 30).astype(np.uint8)).save(folder / "z.png")
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "sub" / "text.dcm").write_text("no DICOM")
    (folder / "sub" / "notes.txt").write_text("of a doctor")
    rows = segment(folder, workers=2)
    assert {name: row["status"] for name, row in rows.items()} == {
        "empty.nii.gz": "failed",
        "sub/notes.txt": "skipped",
        "sub/text.dcm": "failed",
        "z.png": "ok",
    }
    assert rows["empty.nii.gz"]["reason"] == "the file is empty"
    assert "sub/text.dcm: FAILED, text.dcm is not a DICOM file" in caplog.text
    assert "notes.txt: skipped" in caplog.text


@pytest.mark.parametrize("fails", ["reading", "writing the mask", "drawing"])
def test_what_the_system_says_of_one_file_is_that_file_s_row(fails, tmp_path, segment, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.where(pattern(), 220, 30).astype(np.uint8)).save(folder / name)
    target = {
        "reading": "monai_kd.io.readers.SliceReader.source",
        "writing the mask": "monai_kd.inference.masks.MaskWriter._png",
        "drawing": "monai_kd.inference.findings.draw_overlay",
    }[fails]
    module, _, name = target.rpartition(".")
    original, calls = getattr(pydoc.locate(module), name), []

    def fails_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return original(*args, **kwargs)

    monkeypatch.setattr(target, fails_once)
    rows = segment(folder, overlays=True)
    assert {name: row["status"] for name, row in rows.items()} == {"a.png": "ok", "b.png": "failed", "c.png": "ok"}
    what = "it can't be read" if fails == "reading" else "an output can't be written"
    assert rows["b.png"]["reason"] == f"{what}: Input/output error"


def test_a_full_disk_ends_the_run(tmp_path, segment, monkeypatch):
    for name in ("a.png", "b.png"):
        Image.fromarray(np.where(pattern(), 220, 30).astype(np.uint8)).save(tmp_path / name)
    calls = []

    def full(*_, **__):
        calls.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("monai_kd.inference.masks.MaskWriter._png", full)
    with pytest.raises(RuntimeError) as caught:
        segment(tmp_path)
    assert isinstance(caught.value.__cause__, OSError)
    assert calls == [1]


def test_a_run_is_not_done_before_all_its_tables_are_there(tmp_path, segment, monkeypatch):
    Image.fromarray(np.where(pattern(), 220, 30).astype(np.uint8)).save(tmp_path / "a.png")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("monai_kd.inference.findings.write_lesions", full)
    with pytest.raises((RuntimeError, OSError)):
        segment(tmp_path)
    (table,) = tmp_path.rglob("findings.csv")
    assert [row["status"] for row in result_rows(table)] == ["unfinished"]


DRAWING = "monai_kd.inference.findings.draw_overlay"


def pictures(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    names = [f"{number}.png" for number in range(count)]
    for name in names:
        Image.fromarray(np.where(pattern(), 220, 30).astype(np.uint8)).save(folder / name)
    return names


def test_pictures_of_slices_are_drawn_while_the_network_runs(tmp_path, segment, monkeypatch, caplog):
    names, main, begun = pictures(tmp_path / "in", 5), [], threading.Event()

    def slow(*args, **kwargs):
        main.append(threading.current_thread() is threading.main_thread())
        # The first picture is not finished before the third file was measured.
        assert begun.wait(20)
        draw_overlay(*args, **kwargs)

    def measured(*args):
        files.append(1)
        if len(files) == MOST_WAITING + 1:
            begun.set()
        return finding_of(*args)

    files: list[int] = []
    monkeypatch.setattr(DRAWING, slow)
    monkeypatch.setattr("monai_kd.inference.findings.finding_of", measured)
    with caplog.at_level(logging.INFO):
        rows = segment(tmp_path / "in", overlays=True)
    assert [row["status"] for row in rows.values()] == ["ok"] * 5
    assert all((tmp_path / "out" / f"{number}_overlay.png").stat().st_size > 1000 for number in range(5))
    assert main == [False] * 5
    told = [record.getMessage().split()[1] for record in caplog.records if record.getMessage().startswith("[")]
    assert told == [f"{name}:" for name in names]


@pytest.mark.parametrize("last", [False, True])
def test_a_full_disk_while_drawing_ends_the_run_and_keeps_what_was_found(last, tmp_path, segment, monkeypatch):
    names, calls = pictures(tmp_path / "in", 4), []
    before = set(threading.enumerate())

    def full(*args, **kwargs):
        calls.append(1)
        if len(calls) == (4 if last else 2):
            raise OSError(errno.ENOSPC, "No space left on device")
        draw_overlay(*args, **kwargs)

    monkeypatch.setattr(DRAWING, full)
    with pytest.raises(RuntimeError) as caught:
        segment(tmp_path / "in", overlays=True)
    assert isinstance(caught.value.__cause__, OSError)
    with open(tmp_path / "out" / "findings.csv", newline="") as file:
        found = {row["file"]: row["status"] for row in csv.DictReader(file)}
    assert found[names[0]] == "ok"
    assert found[names[3 if last else 1]] == "unfinished"
    begun = set(threading.enumerate()) - before
    assert not any(thread.name.startswith("ThreadPoolExecutor") for thread in begun)


def test_broken_drawing_is_not_taken_for_a_bad_file(tmp_path, segment, monkeypatch):
    pictures(tmp_path / "in", 2)
    monkeypatch.setattr(DRAWING, lambda *_, **__: 1 / 0)
    with pytest.raises(RuntimeError) as caught:
        segment(tmp_path / "in", overlays=True)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_nothing_segmented_is_an_error(tmp_path, segment):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(RuntimeError) as caught:
        segment(tmp_path / "a.png")
    assert "the file could not be segmented" in str(caught.value.__cause__)
    assert "can't be read as a picture" in (tmp_path / "out" / "findings.csv").read_text()


def test_broken_code_is_not_taken_for_a_bad_file(tmp_path, segment, monkeypatch):
    Image.fromarray(np.where(pattern(), 220, 30).astype(np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr("monai_kd.transforms.planar.ScaleSliceIntensity.__call__", lambda *_: 1 / 0)
    with pytest.raises(RuntimeError) as caught:
        segment(tmp_path / "a.png")
    error = caught.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("time", ["101010", "junk:DOE^JANE"])
def test_no_patient_data_in_outputs_or_logs(tmp_path, segment, caplog, capfd, time):
    # Who embeds the bundle may log more than the command does.
    caplog.set_level(logging.DEBUG)
    header = {"StudyTime": time, "FrameOfReferenceUID": "1.2.3.4", "StudyDescription": PATIENT}
    sources = [
        write_dicom(tmp_path / "in" / f"{number}.dcm", grey(pattern()), position=(0, 0, number), **header)
        for number in range(3)
    ]
    instances = [str(pydicom.dcmread(path).SOPInstanceUID) for path in sources]
    write_dicom(tmp_path / "in" / "bad.dcm", grey(pattern()), series="9", Modality="SR", Rows=None)
    caplog.clear()  # writing a time that is none made pydicom quote it
    capfd.readouterr()
    row = segment(tmp_path / "in", overlays=True, dicom_seg=True)["in"]
    # Of a header that is not as DICOM wants it no segmentation is written, and its value is not quoted.
    assert row["dicom_seg"] == ("in_seg.dcm" if time == "101010" else "")
    assert ("StudyTime is not as" in row["reason"]) == (time != "101010")
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    # The one output that holds the patient, as docs/inference.md says.
    assert PATIENT.encode() in files.pop("in_seg.dcm", PATIENT.encode())
    assert {path.rsplit(".", 1)[-1] for path in files} == {"csv", "gz", "png"}
    written = b"".join(files.values())
    mask = nib.load(tmp_path / "out" / "in_mask.nii.gz")
    said = caplog.text.encode() + "".join(capfd.readouterr()).encode()
    for secret in (PATIENT, "ID-4711", "19700102", "20200102", *instances):
        assert secret.encode() not in written + said + bytes(mask.header.binaryblock)


def test_small_areas_are_dropped_slice_by_slice():
    mask = torch.zeros(1, 8, 8, 2)
    mask[0, 0:2, 0:2, 0] = 1  # 4 pixels, 1.6 mm²
    mask[0, 5:8, 5:8, 0] = 1  # 9 pixels, 3.6 mm²
    mask[0, 2, 2, 1], mask[0, 3, 3, 1] = 1, 1  # 2 pixels that touch by a corner, 0.8 mm²
    data = {"pred": MetaTensor(mask, meta={"spacing": SPACING})}
    left = {limit: DropSmallAreasd("pred", limit)(data)["pred"] for limit in (0, 0.8, 0.9, 1.6, 3.6, 3.7)}
    assert {limit: int(kept.sum()) for limit, kept in left.items()} == {
        0: 15,
        0.8: 15,
        0.9: 13,
        1.6: 13,
        3.6: 9,
        3.7: 0,
    }
    assert int(mask.sum()) == 15
    unknown = {"pred": MetaTensor(mask, meta={"spacing": np.full(3, np.nan)})}
    assert int(DropSmallAreasd("pred", 100)(unknown)["pred"].sum()) == 15
    with pytest.raises(ValueError, match="smallest_area_mm2"):
        DropSmallAreasd("pred", -1)


def test_overlay_shows_at_most_twelve_slices(tmp_path, segment):
    truth = np.repeat(pattern().T[..., None], 30, axis=-1)
    nib.save(nib.Nifti1Image(grey(truth), np.diag([1, 1, 3.0, 1])), tmp_path / "a.nii.gz")
    row = segment(tmp_path / "a.nii.gz", overlays=True)["a.nii.gz"]
    picture = np.asarray(Image.open(tmp_path / "out" / row["overlay"]).convert("RGB")).astype(int)
    red = (picture[..., 0] > 200) & (picture[..., 1] < 120)
    # Four beside each other, three rows: every twelfth of the picture has an outline.
    height, width = (picture.shape[0] - 60) // 3, picture.shape[1] // 4
    tiles = red[60 : 60 + 3 * height, : 4 * width].reshape(3, height, 4, width).any(axis=(1, 3))
    assert tiles.all()


def test_what_is_assumed_of_a_slice_is_said(tmp_path, segment):
    folder, image = tmp_path / "in", grey(pattern())
    write_dicom(folder / "neither.dcm", image, series="1", orientation=None, position=None)
    write_dicom(folder / "turned.dcm", image, series="2", orientation=None)
    write_dicom(folder / "whole.dcm", image, series="3")
    reasons = {name: row["reason"] for name, row in segment(folder).items()}
    assert reasons["whole.dcm"] == ""
    assert "has no ImageOrientationPatient: taken as" in reasons["turned.dcm"]
    assert "has no ImageOrientationPatient and ImagePositionPatient: taken as" in reasons["neither.dcm"]
