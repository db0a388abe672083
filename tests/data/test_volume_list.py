"""Data lists of volumes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
from volumes import MODALITIES, REGIONS, write_volumes

from monai_kd.data import find_leaks, load_fold, load_volumes, modalities, region_values


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_volumes(tmp_path / "set", size=(6, 5, 4))


def changed(folder: Path, entry: dict | None = None, **top: object) -> Path:
    path = folder / "datalist.json"
    content = json.loads(path.read_text())
    content["training"][0].update(entry or {})
    path.write_text(json.dumps({**content, **top}))
    return folder


def test_lists_of_files_become_absolute(folder):
    found = load_volumes(folder, 0, "validation")
    assert [entry["patient"] for entry in found] == ["P0", "P2"]
    assert found[0]["image"] == [str(folder / "P0" / f"{name}.nii.gz") for name in MODALITIES]
    assert found[0]["label"] == str(folder / "P0" / "seg.nii.gz")


def test_slices_have_one_file(folder):
    with pytest.raises(ValueError, match="has no 'image'; it must be the path of a file"):
        load_fold(folder, 0, "validation")


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (["P0/flair.nii.gz", "P0/absent.nii.gz"] * 2, FileNotFoundError, r"lists 2 files .*absent\.nii\.gz"),
        (["P0/flair.nii.gz"], ValueError, r"has 1 files, and 'modality' names 4 channels, flair, t1, t1ce, t2"),
        (["P0/flair.nii.gz", "../else.nii.gz"] * 2, ValueError, "'../else.nii.gz', is a file outside the folder"),
        ([], ValueError, r"entry 0 has the 'image' \[\]; it must be the path of a file, or a list with one for each"),
        (["P0/flair.nii.gz", 7], ValueError, r"entry 0 has the 'image' \['P0/flair.nii.gz', 7\]"),
    ],
)
def test_what_is_wrong_with_a_list(folder, image, error, message):
    (folder.parent / "else.nii.gz").write_bytes(b"")
    with pytest.raises(error, match=message):
        load_volumes(changed(folder, {"image": image}), 0, "validation")


def test_files_outside_on_request(folder):
    shutil.copy(folder / "P0" / "flair.nii.gz", folder.parent / "else.nii.gz")
    image = ["../else.nii.gz", *(f"P0/{name}.nii.gz" for name in MODALITIES[1:])]
    changed(folder, {"image": image})
    assert load_volumes(folder, 0, "validation", allow_outside=True)[0]["image"][0].endswith("else.nii.gz")


def test_channels_and_regions(folder):
    assert modalities(folder) == MODALITIES
    assert region_values(folder) == REGIONS


@pytest.mark.parametrize("named", [None, {}, {"1": "t1"}, {"0": "t1", "2": "t2"}, {"0": "t1", "1": "T1"}, ["t1"]])
def test_channels_without_names(folder, named):
    with pytest.raises(ValueError, match=r"datalist\.json: 'modality' must name the channels"):
        modalities(changed(folder, modality=named))


@pytest.mark.parametrize("regions", [None, {}, {"a": []}, {"a": [0]}, {"a": [1.5]}, {"a": 1}, {"a": [True]}, [[1]]])
def test_regions_without_values(folder, regions):
    with pytest.raises(ValueError, match=r"datalist\.json: 'regions' must give each region its values"):
        region_values(changed(folder, regions=regions))


def test_equal_images_on_both_sides_are_found(folder, caplog):
    for name in MODALITIES:
        shutil.copy(folder / "P0" / f"{name}.nii.gz", folder / "P1" / f"{name}.nii.gz")
    with caplog.at_level(logging.WARNING):
        load_volumes(folder, 0, "training")
    assert "1 of the 2 slices held out have images that are in the training part too" in caplog.text
    one, two = load_volumes(folder, 0, "training")[:1], load_volumes(folder, 0, "validation")[:1]
    assert len(find_leaks(one, two)) == 1
