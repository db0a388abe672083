"""Slices without a tumour from a folder of their own."""

from __future__ import annotations

import json

import pytest
from heads_folder import write_heads

from monai_kd.data import add_negatives, load_classes, load_fold, read_datalist

NAMES = ["meningioma", "glioma", "pituitary"]


def test_without_a_folder_nothing_changes(disc_dataset):
    entries = load_fold(disc_dataset, 0, "training")
    assert add_negatives(entries, None, NAMES) == entries


def test_segmentation(disc_dataset, tmp_path):
    entries, folder = load_fold(disc_dataset, 0, "training"), write_heads(tmp_path)
    found = add_negatives(entries, folder, NAMES)
    added = found[len(entries) :]
    assert [{**entry, "tumour": True} for entry in entries] == found[: len(entries)]
    assert len(added) == len(read_datalist(folder)["training"]) > 5
    for entry in added:
        assert entry["tumour"] is False
        assert entry["label"] == entry["image"]
        assert entry["image"].startswith(str(folder))
        assert entry["class"] == 3
    assert len({frozenset(entry) for entry in found}) == 1


@pytest.mark.parametrize("negatives", [False, True])
def test_classification(class_dataset, tmp_path, negatives):
    entries = load_classes(class_dataset, 0, "training", negatives=negatives)
    found = add_negatives(entries, write_heads(tmp_path), ["no tumour", *NAMES])
    assert {entry["class"] for entry in found[len(entries) :]} == {0}
    assert len({frozenset(entry) for entry in found}) == 1
    assert ("label" in found[-1]) == negatives


def test_what_is_refused(disc_dataset, tmp_path):
    entries, folder = load_fold(disc_dataset, 0, "training"), write_heads(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"negatives_dir: .*holds no datalist.json; .*data_prep negatives"):
        add_negatives(entries, tmp_path / "none", NAMES)
    content = json.loads((folder / "datalist.json").read_text())
    content["training"][2].update({"tumour": True, "label": "images/x.nii.gz", "class": 0})
    (folder / "images" / "x.nii.gz").touch()
    (folder / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"negatives_dir: .* 1 of \d+ have no such mark"):
        add_negatives(entries, folder, NAMES)
