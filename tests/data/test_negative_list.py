"""Slices without a tumour from a folder of their own."""

from __future__ import annotations

import json
import logging
import shutil
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from heads_folder import write_heads

from monai_kd.data import SliceDataset, add_negatives, load_classes, load_fold, read_datalist

NAMES = ["meningioma", "glioma", "pituitary"]


def test_without_a_folder_nothing_changes(disc_dataset):
    parts = partial(load_fold, disc_dataset, 0)
    assert add_negatives(parts, None, NAMES) == parts("training")


def test_segmentation(disc_dataset, tmp_path, caplog):
    parts, folder = partial(load_fold, disc_dataset, 0), write_heads(tmp_path)
    entries, found = parts("training"), add_negatives(parts, folder, NAMES)
    added = found[len(entries) :]
    assert [{**entry, "tumour": True} for entry in entries] == found[: len(entries)]
    assert len(added) == len(read_datalist(folder)["training"]) > 5
    for entry in added:
        assert entry["tumour"] is False
        assert entry["label"] == entry["image"]
        assert entry["image"].startswith(str(folder))
        assert entry["class"] == 3
    assert len({frozenset(entry) for entry in found}) == 1
    assert "Because of this leak" not in caplog.text


def test_listed_slices_of_a_volume_are_those_alone(disc_dataset, tmp_path):
    """Also beside slices with a file of their own; and keys that not all entries have are left out."""
    volume = np.zeros((16, 16, 10), np.float32)
    nib.save(nib.Nifti1Image(volume, np.diag([-1.0, -1.0, 5.0, 1.0])), tmp_path / "head.nii.gz")
    listed = [{"image": "head.nii.gz", "tumour": False, "fold": 0, "slice": place, "scanner": "X"} for place in (2, 5)]
    listed = [{**entry, "patient": "a", "group": "a", "source": f"a{entry['slice']}"} for entry in listed]
    (tmp_path / "datalist.json").write_text(json.dumps({"labels": {"1": "no tumour"}, "training": listed}))
    training = load_fold(disc_dataset, 0, "training")
    training[0]["site"] = "Y"
    found = add_negatives(lambda part: training if part == "training" else [], tmp_path, NAMES)
    assert [entry.get("slice") for entry in found] == [None] * len(training) + [2, 5]
    assert len(SliceDataset(found)) == len(found)
    assert len({frozenset(entry) - {"slice"} for entry in found}) == 1


def test_patients_and_images_that_validate_are_warned_of(disc_dataset, tmp_path, caplog):
    parts, folder = partial(load_fold, disc_dataset, 0), write_heads(tmp_path)
    held_out = parts("validation")
    content = json.loads((folder / "datalist.json").read_text())
    for entry in content["training"][:3]:
        entry["group"] = held_out[0]["group"]
    shutil.copy(held_out[1]["image"], folder / content["training"][-1]["image"])
    (folder / "datalist.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        found = add_negatives(parts, folder, NAMES)
    assert len(found) == len(parts("training")) + len(content["training"])
    patient, image = [record.getMessage() for record in caplog.records if "leak" in record.getMessage()]
    assert patient.startswith("negatives_dir: ")
    assert f"1 patient or group ({held_out[0]['group']})" in patient
    assert "have images that are in the training part too" in image


@pytest.mark.parametrize("negatives", [False, True])
def test_classification(class_dataset, tmp_path, negatives):
    parts = partial(load_classes, class_dataset, 0, negatives=negatives)
    entries, found = parts("training"), add_negatives(parts, write_heads(tmp_path), ["no tumour", *NAMES])
    assert {entry["class"] for entry in found[len(entries) :]} == {0}
    assert len({frozenset(entry) for entry in found}) == 1
    assert ("label" in found[-1]) == negatives


def test_what_is_refused(disc_dataset, tmp_path):
    parts, folder = partial(load_fold, disc_dataset, 0), write_heads(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"negatives_dir: .*holds no datalist.json; .*data_prep negatives"):
        add_negatives(parts, tmp_path / "none", NAMES)
    content = json.loads((folder / "datalist.json").read_text())
    content["training"][2].update({"tumour": True, "label": "images/x.nii.gz", "class": 0})
    (folder / "images" / "x.nii.gz").touch()
    (folder / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"negatives_dir: .* 1 of \d+ have no such mark"):
        add_negatives(parts, folder, NAMES)
