"""Which files of a folder are the channels of one image."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from monai_kd.inference import InputVolumes

BRATS = ["flair", "t1", "t1ce", "t2"]


def found(folder: Path, *names: str, modalities: list[str] = BRATS) -> dict[str, list[str]]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    inputs = InputVolumes(folder, folder.parent / "out", modalities)
    return {image.label: [path.relative_to(folder).as_posix() for path in image.paths] for image in inputs.images}


def test_a_folder_for_each_patient(tmp_path):
    names = [f"{patient}/{name}.nii.gz" for patient in ("P1", "P2") for name in BRATS]
    assert found(tmp_path / "in", *names) == {"P1": names[:4], "P2": names[4:]}


@pytest.mark.parametrize("form", ["BraTS20_001_{}.nii.gz", "case-7-{}.nii", "x/y.{}.NII.GZ"])
def test_names_that_end_with_the_channel(tmp_path, form):
    """t1ce is no t1, whatever the order of the files."""
    names = [form.format(name.upper()) for name in BRATS]
    (paths,) = found(tmp_path / "in", *reversed(names)).values()
    assert paths == names


def test_several_patients_in_one_folder(tmp_path):
    names = [f"{patient}_{name}.nii.gz" for patient in ("a", "b") for name in BRATS]
    assert found(tmp_path / "in", *names) == {"a": names[:4], "b": names[4:]}


def test_other_files_beside_channels_are_left_out(tmp_path, caplog):
    names = [f"P1/{name}.nii.gz" for name in BRATS]
    with caplog.at_level(logging.WARNING):
        assert list(found(tmp_path / "in", *names, "P1/seg.nii.gz", "P1/cat1.nii.gz")) == ["P1"]
    assert "2 files are no channel of an image, P1/cat1.nii.gz" in caplog.text


def test_a_second_file_of_a_channel_is_said_to_be_left_out(tmp_path, caplog):
    names = [f"P1/{name}.nii.gz" for name in BRATS]
    (paths,) = found(tmp_path / "in", *names, "P1/t2.nii", "P1/_flair.nii.gz").values()
    assert paths == ["P1/_flair.nii.gz", "P1/t1.nii.gz", "P1/t1ce.nii.gz", "P1/t2.nii"]
    assert "P1/t2.nii.gz is left out: P1/t2.nii is the same channel of the same image" in caplog.text
    assert "P1/flair.nii.gz is left out: P1/_flair.nii.gz is the same" in caplog.text


def test_files_of_all_channels(tmp_path):
    names = ["one.nii.gz", "two/three.nii.gz"]
    assert found(tmp_path / "in", *names) == {name: [name] for name in names}


def test_a_channel_that_is_missing_is_left_to_the_reader(tmp_path):
    assert found(tmp_path / "in", "P1/flair.nii.gz", "P1/t2.nii.gz") == {"P1": ["P1/flair.nii.gz", "P1/t2.nii.gz"]}


def test_one_channel_is_a_file_each(tmp_path):
    names = ["a.nii.gz", "b_t1.nii.gz"]
    assert found(tmp_path / "in", *names, modalities=["t1"]) == {name: [name] for name in names}


def test_a_file_by_itself(tmp_path):
    (tmp_path / "all.nii.gz").write_bytes(b"x")
    (image,) = InputVolumes(tmp_path / "all.nii.gz", tmp_path / "out", BRATS).images
    assert (image.paths, image.name) == ((tmp_path / "all.nii.gz",), "all")


def test_images_of_a_folder_and_of_a_prefix_are_told_apart(tmp_path):
    names = [f"P1/{name}.nii.gz" for name in BRATS], [f"P1_{name}.nii.gz" for name in BRATS]
    images = found(tmp_path / "in", *names[0], *names[1])
    assert images == {"P1/flair.nii.gz": names[0], "P1_flair.nii.gz": names[1]}
