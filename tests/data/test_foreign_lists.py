"""Data lists as the Medical Segmentation Decathlon and Auto3DSeg have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_kd.bundle.data import mask_values
from monai_kd.data import class_names, load_classes, load_fold, load_volumes, modalities, read_datalist, region_values
from monai_kd.data.foreign_lists import completed

# Task01 of the Decathlon, with fewer images.
DECATHLON = {
    **{"name": "BRATS", "description": "Gliomas", "tensorImageSize": "4D", "licence": "CC-BY-SA 4.0"},
    "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
    **{"numTraining": 10, "numTest": 1},
    "training": [
        {"image": f"./imagesTr/BRATS_{number:03d}.nii.gz", "label": f"./labelsTr/BRATS_{number:03d}.nii.gz"}
        for number in range(1, 11)
    ],
    "test": ["./imagesTs/BRATS_485.nii.gz"],
}
AUTO3DSEG = {
    "testing": [{"image": "val_001.nii.gz"}],
    "training": [
        {"fold": number % 3, "image": f"tr_{number}.nii.gz", "label": f"tr_{number}_seg.nii.gz"} for number in range(6)
    ],
}


def written(folder: Path, content: dict, name: str) -> Path:
    for entry in content["training"]:
        for key in ("image", "label"):
            file = folder / entry[key]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
    (folder / name).write_text(json.dumps(content))
    return folder


def test_decathlon(tmp_path, caplog):
    folder = written(tmp_path, DECATHLON, "dataset.json")
    parts = {part: load_volumes(folder, 0, part) for part in ("training", "validation")}
    assert {part: len(entries) for part, entries in parts.items()} == {"training": 8, "validation": 2}
    assert "has no folds: its 10 images are put into 5 at random" in caplog.text
    # Always the same, and each image a patient.
    assert load_volumes(folder, 0, "validation") == parts["validation"]
    assert {entry["patient"] for part in parts.values() for entry in part} == {f"BRATS_{n:03d}" for n in range(1, 11)}
    first = parts["training"][0]
    assert Path(first["image"]).is_file()
    assert first["group"] == first["patient"]
    assert modalities(folder) == ["FLAIR", "T1w", "t1gd", "T2w"]
    assert region_values(folder) == {"edema": [1], "non-enhancing tumor": [2], "enhancing tumour": [3]}
    assert class_names(folder) == ["edema", "non-enhancing tumor", "enhancing tumour"]


def test_masks_of_several_labels_are_not_one_mask(tmp_path):
    folder = written(tmp_path, DECATHLON, "dataset.json")
    for channels in (1, 4):
        with pytest.raises(
            ValueError, match=r"several labels \(edema, non-enhancing tumor, enhancing tumour\), and no image"
        ):
            mask_values(str(folder), channels)
    (folder / "dataset.json").write_text(json.dumps({**DECATHLON, "mask_value": 3}))
    assert mask_values(str(folder), 1) == 3
    (folder / "dataset.json").write_text(json.dumps({**DECATHLON, "labels": {"0": "background", "1": "spleen"}}))
    assert mask_values(str(folder), 1) is None


def test_auto3dseg(tmp_path, caplog):
    folder = written(tmp_path, AUTO3DSEG, "datalist.json")
    validation = load_fold(folder, 1, "validation")
    assert [Path(entry["image"]).name for entry in validation] == ["tr_1.nii.gz", "tr_4.nii.gz"]
    assert "at random" not in caplog.text
    with pytest.raises(ValueError, match=r"datalist\.json: 'modality' must name the channels"):
        modalities(folder)


def test_images_without_a_class_are_not_classified(tmp_path):
    folder = written(tmp_path, DECATHLON, "dataset.json")
    with pytest.raises(ValueError, match=r"dataset\.json gives no image a 'class'"):
        load_classes(folder, 0, "training")


@pytest.mark.parametrize("change", [{"fold": 1}, {"class": 0}, {"image": 3}])
def test_lists_that_are_neither_are_checked_as_before(tmp_path, change):
    """One entry has what the others lack, or names no image."""
    content = {**DECATHLON, "training": [{**DECATHLON["training"][0], **change}, *DECATHLON["training"][1:]]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"entry [01].* has (no (fold|patient)|the 'image' 3)"):
        read_datalist(tmp_path)


def test_images_and_classes_alone(tmp_path, caplog):
    images = [{"image": f"img/{number:03d}.png", "class": number % 2} for number in range(20)]
    negative = {"image": "img/none.png", "tumour": False}
    content = {"labels": {"1": "red", "2": "green", "3": "no tumour"}, "training": [*images, negative]}
    (tmp_path / "img").mkdir()
    for entry in content["training"]:
        (tmp_path / entry["image"]).write_bytes(b"")
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    entries = read_datalist(tmp_path)["training"]
    assert [entry.get("class") for entry in entries] == [*(each["class"] for each in images), None]
    assert {entry["fold"] for entry in entries} == set(range(5))
    assert entries[3]["patient"] == "003"
    assert class_names(tmp_path) == ["red", "green", "no tumour"]
    assert len(load_fold(tmp_path, 0, "training", keys=("image",))) == 16
    assert "its 21 images are put into 5 at random, each as of a patient of its own" in caplog.text


def test_a_class_by_another_key_is_told(tmp_path):
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [{"image": "a.png", "label": 3}]}))
    with pytest.raises(ValueError, match="The class of an image is its 'class', counted from 0"):
        read_datalist(tmp_path)


def test_our_own_list_comes_first(tmp_path, disc_dataset):
    (tmp_path / "dataset.json").write_text(json.dumps(DECATHLON))
    (tmp_path / "datalist.json").write_text((disc_dataset / "datalist.json").read_text())
    assert read_datalist(tmp_path) == json.loads((disc_dataset / "datalist.json").read_text())


@pytest.mark.parametrize(
    ("images", "patients"),
    [
        ([f"case_{n}/image.nii.gz" for n in range(3)], [f"case_{n}/image" for n in range(3)]),
        (["a/case.000.nii.gz", "b/case.001.png"], ["case.000", "case.001"]),
        (["a/x.nii.gz", "b/x.nii.gz", "b/y.nii"], ["a/x", "b/x", "y"]),
    ],
)
def test_each_image_is_a_patient_whatever_its_folders_and_dots(images, patients, tmp_path):
    entries = [{"image": image, "label": f"labels/{n}.nii.gz"} for n, image in enumerate(images)]
    found = completed({"training": entries, "labels": {"0": "background", "1": "liver"}}, tmp_path / "dataset.json")
    assert [entry["patient"] for entry in found["training"]] == patients
    assert [entry["group"] for entry in found["training"]] == patients
