"""Which files are images, and what their outputs are called."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from enhanced import stack, write_enhanced
from slices import grey, pattern, write_dicom

from data_prep.marker import MARKER
from monai_kd.inference import Classifications, Findings, InputFiles
from monai_kd.inference.masks import mask_path
from monai_kd.inference.results import REMEMBERED, TABLES
from monai_kd.io import atomic_write
from monai_kd.io.table import write_table

IMAGE = grey(pattern())


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def test_no_two_inputs_share_an_output(tmp_path):
    names = ["a.png", "a.jpg", "a.nii.gz", "A.PNG", "b.png", "sub/a.png", "sub/b.nii", "a_png.png", "c.nii", "c.nii.gz"]
    inputs = InputFiles(touch(tmp_path / "in", *names), tmp_path / "out")
    found = {image.label: image.name for image in inputs.images}
    assert sorted(found) == sorted(names)
    assert len({name.lower() for name in found.values()}) == len(names)
    assert (found["b.png"], found["sub/a.png"], found["a.jpg"]) == ("b", "sub/a", "a_jpg")
    masks = [mask_path(inputs, name).relative_to(tmp_path / "out").as_posix().lower() for name in names]
    assert len(set(masks)) == len(names)
    assert mask_path(inputs, "sub/b.nii") == tmp_path / "out" / "sub" / "b_mask.nii"


LONG = {
    "letters": ["b" * 251 + ".mat", "b" * 250 + "c.mat", "b" * 251 + ".nii"],
    "cases": ["b" * 251 + ".mat", "b" * 250 + "B.mat"],
    "bytes of a letter": ["ä" * 125 + ".mat", "頭" * 83 + ".png", "x" + "頭" * 83 + ".png"],
    "no text": [os.fsdecode(b"\xe9" * 251 + b".png"), os.fsdecode(b"\xe9" * 250 + b"\xea.png")],
    "folders": ["sub/" + "b" * 251 + ".mat", "other/" + "b" * 251 + ".mat", "b" * 251 + ".mat"],
    "without a suffix": ["b" * 255 + "/a.png", "b" * 240 + ".png"],
}


@pytest.mark.parametrize("names", LONG.values(), ids=LONG)
def test_outputs_of_long_names_fit_and_stay_apart(names, tmp_path):
    inputs = InputFiles(touch(tmp_path / "in", *names), tmp_path / "out")
    found = [image.name for image in inputs.images]
    assert len({name.lower() for name in found}) == len(names)
    for image in inputs.images:
        for path in (mask_path(inputs, image.label), tmp_path / "out" / f"{image.name}_overlay.png"):
            with atomic_write(path) as temporary:
                temporary.write_text("x")
            assert path.parent == (tmp_path / "out" / image.label).parent
    assert found == [image.name for image in InputFiles(tmp_path / "in", tmp_path / "out").images]
    assert found == [
        image.name for image in InputFiles(touch(tmp_path / "in", "0.png"), "x").images if image.name != "0"
    ]


def test_names_that_fit_are_kept(tmp_path):
    inputs = InputFiles(touch(tmp_path / "in", "b" * 236 + ".png"), tmp_path / "out")
    assert inputs.images[0].name == "b" * 236


def test_folders_are_searched_and_the_rest_is_named(tmp_path):
    touch(tmp_path, "x/y/a.png", "x/notes.txt", ".hidden/b.png", ".DS_Store", "out/a_mask.png", "DICOMDIR")
    inputs = InputFiles(tmp_path, tmp_path / "out")
    assert [image.label for image in inputs.images] == ["x/y/a.png"]
    assert inputs.skipped == ["DICOMDIR", "x/notes.txt"]


def test_results_of_another_run_are_no_inputs(tmp_path, caplog):
    touch(
        tmp_path, "a.png", "old/a_mask.png", "old/a_overlay.png", "old/sub/b_mask.png", "old/own_mask.png", "old/b.png"
    )
    rows = [
        {"file": "b.png", "status": "ok", "mask": "a_mask.png", "overlay": "a_overlay.png"},
        {"file": "own.png", "status": "failed"},
        {"file": "sub/b.png", "status": "ok", "mask": "sub/b_mask.png"},
    ]
    write_table(rows, ["file", "status", "reason", "mask", "overlay"], tmp_path / "old" / "findings.csv")
    (tmp_path / "report.csv").write_text("mask\na.png\n")  # of somebody else
    inputs = InputFiles(tmp_path, tmp_path / "out")
    assert [image.label for image in inputs.images] == ["a.png", "old/b.png", "old/own_mask.png"]
    assert inputs.skipped == ["old/findings.csv", "report.csv"]
    assert f"input: 3 files are left out, which {tmp_path}/old/findings.csv names as results." in caplog.text


def test_results_of_runs_whose_tables_were_replaced_are_no_inputs(tmp_path, caplog):
    touch(tmp_path, "a.png", "a_mask.png", "b.png")
    (tmp_path / REMEMBERED).write_text(json.dumps(["a_mask.png"]))
    assert [image.label for image in InputFiles(tmp_path, tmp_path / "out").images] == ["a.png", "b.png"]
    assert f"input: 1 files are left out, which {tmp_path}/{REMEMBERED} names as results." in caplog.text


@pytest.mark.parametrize("name", ["~a.png", "~nobody/a.png"])
def test_a_name_that_begins_with_a_tilde_is_none_of_a_user(name, tmp_path, monkeypatch):
    touch(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    inputs = InputFiles(".", tmp_path / "out")
    assert Path(inputs[0]["image"]) == tmp_path / name
    assert inputs.images[0].label == name


def test_folders_that_can_not_be_read_are_named(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "b/2.png")
    listed = os.scandir

    def scandir(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    inputs = InputFiles(tmp_path, tmp_path / "out")
    assert [image.label for image in inputs.images] == ["a/1.png"]
    assert inputs.unreadable == {"b": "the folder can't be read: Permission denied"}


def test_the_tables_of_results():
    assert set(TABLES) >= {Findings.table, Classifications.table}


def test_numbers_in_names_count_as_numbers(tmp_path):
    names = ["1.png", "2.png", "10.png", "11.png", "p2/z.png", "p2/b9.png", "p10/a.png", "notes2.txt", "notes10.txt"]
    inputs = InputFiles(touch(tmp_path, *reversed(names)), tmp_path / "out")
    expected = ["1.png", "2.png", "10.png", "11.png", "p2/b9.png", "p2/z.png", "p10/a.png"]
    assert [image.label for image in inputs.images] == expected
    assert inputs.skipped == ["notes2.txt", "notes10.txt"]


def test_what_marks_a_folder_of_phantoms_is_no_input(tmp_path):
    inputs = InputFiles(touch(tmp_path, "1.png", MARKER, "README.txt"), tmp_path / "out")
    assert inputs.skipped == ["README.txt"]


def test_linked_folders_are_followed_once(tmp_path):
    touch(tmp_path / "in", "a.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    touch(tmp_path / "elsewhere", "b.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    labels = [image.label for image in InputFiles(tmp_path / "in", tmp_path / "out").images]
    assert labels == ["a.png", "link/b.png"]


def test_dicom_files_of_a_series_are_one_volume(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / "one" / f"{number}.dcm", IMAGE, position=(0, 0, number))
        write_dicom(tmp_path / "two" / f"a{number}", IMAGE, position=(0, 0, number), series="1.1")
        write_dicom(tmp_path / "two" / f"b{number}", IMAGE, position=(0, 0, number), series="1.2")
    write_dicom(tmp_path / "two" / "single.dcm", IMAGE, series="1.3")
    images = {image.label: image for image in InputFiles(tmp_path, tmp_path / "out").images}
    assert {label: len(image.paths) for label, image in images.items()} == {
        "one": 3,
        "two/a0": 3,
        "two/b0": 3,
        "two/single.dcm": 1,
    }
    assert images["two/single.dcm"].name == "two/single"
    # A file given by itself is that slice, not the series around it.
    (image,) = InputFiles(tmp_path / "one" / "1.dcm", tmp_path / "out").images
    assert image.paths == (tmp_path / "one" / "1.dcm",)


def test_items_are_read_by_index(tmp_path):
    inputs = InputFiles(touch(tmp_path / "in", "b.png", "a.png"), tmp_path / "out")
    assert len(inputs) == 2
    assert inputs[0] == {"image": str(tmp_path / "in" / "a.png"), "file": "a.png"}


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        len(InputFiles(tmp_path / "absent", tmp_path / "out"))
    with pytest.raises(ValueError, match="no file of a supported kind"):
        len(InputFiles(touch(tmp_path / "texts", "a.txt"), tmp_path / "out"))
    with pytest.raises(ValueError, match="no file of a supported kind"):
        len(InputFiles(tmp_path / "texts" / "a.txt", tmp_path / "out"))
    with pytest.raises(ValueError, match="must not be the input folder"):
        len(InputFiles(touch(tmp_path / "in", "a.png"), tmp_path / "in"))


def test_one_volume_of_a_file(tmp_path):
    path = write_enhanced(tmp_path / "in" / "exam.dcm", [*stack(3, phase=1), *stack(3, phase=2)])
    (image,) = InputFiles(path / "phase-2", tmp_path / "out").images
    of_all = InputFiles(path, tmp_path / "out").images
    assert image in of_all
    assert len(of_all) == 2
    with pytest.raises(ValueError, match=r"exam.dcm holds no volume phase-3; it holds phase-1, phase-2\."):
        len(InputFiles(path / "phase-3", tmp_path / "out"))
    touch(tmp_path / "in", "a.png")
    with pytest.raises(ValueError, match=r"a.png holds no volume x; it holds one image\."):
        len(InputFiles(tmp_path / "in" / "a.png" / "x", tmp_path / "out"))


def test_nothing_is_looked_at_without_need(tmp_path):
    assert len(InputFiles(None, tmp_path)) == 0
    InputFiles(tmp_path / "absent", tmp_path)
    assert not np.any([tmp_path.joinpath(name).exists() for name in ("absent", "out")])


def test_series_in_folders_of_one_name_are_told_apart(tmp_path):
    """By the name of the folder alone, both would be ``scan``, and the second mask would replace the first."""
    root = tmp_path / "scan"
    for number in range(3):
        write_dicom(root / f"{number}.dcm", IMAGE, position=(0, 0, number), series="1.1")
    for number in range(2):
        write_dicom(root / "scan" / f"{number}.dcm", IMAGE, position=(0, 0, number), series="1.2")
    inputs = InputFiles(root, tmp_path / "out")
    assert {image.label: len(image.paths) for image in inputs.images} == {"0.dcm": 3, "scan/0.dcm": 2}
    assert len({image.name for image in inputs.images}) == 2
    assert all(inputs.labelled(image.label) is image for image in inputs.images)
    # From above, folders name them as always.
    assert {image.label for image in InputFiles(tmp_path, tmp_path / "out").images} == {"scan", "scan/scan"}


def test_a_file_of_the_name_of_the_folder_of_a_series(tmp_path):
    for number in range(3):
        write_dicom(tmp_path / "DICOM" / f"{number}.dcm", IMAGE, position=(0, 0, number), series="1.1")
    write_dicom(tmp_path / "DICOM" / "DICOM", IMAGE, series="1.2")
    images = InputFiles(tmp_path / "DICOM", tmp_path / "out").images
    assert {image.label: len(image.paths) for image in images} == {"0.dcm": 3, "DICOM": 1}
