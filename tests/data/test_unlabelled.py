"""Images without a label: marked in the data list, or hidden for an experiment."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from heads_folder import write_heads
from monai.data import list_data_collate

from monai_kd.data import add_negatives, class_weights, is_labelled, load_classes, load_fold, load_volumes
from monai_kd.data.unlabelled import hide_labels, identified, with_unlabelled


def patients(count: int, classes: int = 3) -> list[dict]:
    """Patients with 1 to 3 slices, a class each."""
    return [
        {"group": f"g{number}", "class": number % classes, "image": f"{number}-{place}.png"}
        for number in range(count)
        for place in range(1 + number % 3)
    ]


def labelled_groups(entries: list[dict]) -> set[str]:
    return {entry["group"] for entry in entries if is_labelled(entry)}


def test_slices_of_a_volume_stay_single_beside_images_without_a_label():
    entries = [
        {"image": "v.nii.gz", "label": "m.nii.gz", "class": 0, "slice": place, "tumour": True} for place in (3, 4)
    ]
    found = with_unlabelled([*entries, {"image": "u.png", "labelled": False}], True, "training", Path("list"))
    assert [entry.get("slice") for entry in found] == [3, 4, None]


@pytest.mark.parametrize(
    ("image", "patient"),
    [("u/1.2.840.1", "u/1.2.840.1"), ("u/1.2.840.2", "u/1.2.840.2"), ("a.b.NII.GZ", "a.b"), ("x/y.png", "x/y")],
)
def test_a_patient_is_named_after_the_whole_name_of_a_file(image, patient):
    assert identified({"image": image, "labelled": False})["patient"] == patient


@pytest.mark.parametrize(("share", "of_each"), [(0.1, 1), (0.25, 3), (0.5, 5), (0.9, 9), (1, 10)])
def test_each_class_keeps_its_share_of_patients(share, of_each):
    """With 30 patients, 10 a class: a tenth is one, and a quarter is rounded up."""
    entries = patients(30)
    kept = labelled_groups(hide_labels(entries, share))
    assert Counter(int(name[1:]) % 3 for name in kept) == {0: of_each, 1: of_each, 2: of_each}
    # All slices of a patient, or none.
    hidden = {entry["group"] for entry in hide_labels(entries, share) if not is_labelled(entry)}
    assert not kept & hidden


def test_a_smaller_share_is_part_of_a_larger_one():
    kept = [labelled_groups(hide_labels(patients(30), share)) for share in (0.1, 0.25, 0.5, 1)]
    assert all(small < large for small, large in pairwise(kept))


def test_the_choice_does_not_depend_on_the_order():
    entries = patients(30)
    assert labelled_groups(hide_labels(entries, 0.3)) == labelled_groups(hide_labels(entries[::-1], 0.3))


def test_what_has_no_label_does_not_get_one():
    entries = [{**entry, "labelled": entry["class"] != 0} for entry in patients(30)]
    assert {entry["class"] for entry in hide_labels(entries, 0.5) if is_labelled(entry)} == {1, 2}


@pytest.mark.parametrize("share", [0, -0.5, 1.5, "0.5", True, None])
def test_shares_that_are_none(disc_dataset, share):
    with pytest.raises(ValueError, match="labelled_share must be above 0 and up to 1"):
        load_fold(disc_dataset, 0, "training", labelled_share=share)


def marked(dataset: Path, folder: Path, unlabelled: set[str], **more) -> Path:
    """A copy in which the slices of some patients have no class, no mask, and a mark."""
    shutil.copytree(dataset, folder)
    content = json.loads((folder / "datalist.json").read_text())
    for entry in content["training"]:
        if entry["group"] in unlabelled:
            (folder / entry.pop("label")).unlink()
            del entry["class"]
            entry["labelled"] = False
    content.update(more)
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


def test_marked_images_are_kept_for_a_teacher(disc_dataset, tmp_path, caplog):
    folder = marked(disc_dataset, tmp_path / "data", {"P1", "P5"})
    with caplog.at_level("INFO"):
        entries = load_fold(folder, 0, "training", unlabelled=True)
    assert len(entries) == 8
    assert {entry["group"] for entry in entries if not entry["labelled"]} == {"P1", "P5"}
    assert all(entry["label"] == entry["image"] for entry in entries if not entry["labelled"])
    assert len({frozenset(entry) for entry in entries}) == 1
    assert "4 of the 8 training images" in caplog.text


def test_marked_images_are_left_out_without_one(disc_dataset, tmp_path, caplog):
    folder = marked(disc_dataset, tmp_path / "data", {"P0", "P1"})
    assert {entry["group"] for entry in load_fold(folder, 0, "training")} == {"P2", "P4", "P5"}
    assert "2 of the 8 training images" in caplog.text
    caplog.clear()
    # P0 is of the fold that validates, which needs labels whoever trains.
    for unlabelled in (False, True):
        assert {entry["group"] for entry in load_fold(folder, 0, "validation", unlabelled=unlabelled)} == {"P3"}
    assert caplog.text.count("2 of the 4 validation images") == 2


def test_an_image_alone_is_trained_on_whatever_fold_validates(disc_dataset, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(disc_dataset, folder)
    (folder / "more").mkdir()
    shutil.copy(folder / "images" / "0000.nii.gz", folder / "more" / "u1.nii.gz")
    content = json.loads((folder / "datalist.json").read_text())
    content["training"].append({"image": "more/u1.nii.gz", "labelled": False})
    (folder / "datalist.json").write_text(json.dumps(content))
    for fold in range(3):
        *_, last = load_fold(folder, fold, "training", unlabelled=True)
        assert (last["patient"], last["group"], last["source"]) == ("more/u1", "more/u1", "more/u1.nii.gz")
        assert len(load_fold(folder, fold, "validation")) == 4
    with pytest.raises(ValueError, match=r"fold: .* has the folds \[0, 1, 2\]"):
        load_fold(folder, 3, "training")


def with_one_more(dataset: Path, folder: Path, more: dict, change=lambda number, entry: None) -> Path:
    """A copy with an image without a label, ``more.nii.gz``, and with other entries."""
    shutil.copytree(dataset, folder)
    shutil.copy(folder / "images" / "0000.nii.gz", folder / "more.nii.gz")
    content = json.loads((folder / "datalist.json").read_text())
    for number, entry in enumerate(content["training"]):
        change(number, entry)
    content["training"].append({"image": "more.nii.gz", "labelled": False, **more})
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("patient", [0, "0"])
def test_patients_by_number_on_both_sides_are_found(disc_dataset, tmp_path, caplog, patient):
    """Of the image itself, and of a patient whose slices are in two folds, also where names become text."""
    folder = with_one_more(
        *(disc_dataset, tmp_path / "data", {"patient": patient}),
        change=lambda number, entry: entry.update(patient=number // 4, group=number // 4),
    )
    load_fold(folder, 0, "training", unlabelled=True)
    assert "4 of the 4 slices held out are of 2 patients or groups (0, 1)" in caplog.text


def test_an_image_of_the_validating_fold_that_nobody_uses_is_no_leak(disc_dataset, tmp_path, caplog):
    load_fold(with_one_more(disc_dataset, tmp_path / "data", {"fold": 0, "patient": "P1"}), 0, "training")
    assert "leak" not in caplog.text


def test_other_keys_of_some_entries(disc_dataset, tmp_path):
    """A batch can hold what all entries have."""

    def change(number: int, entry: dict) -> None:
        entry["age"] = number
        if number % 2:
            entry["labelled"] = True

    folder = with_one_more(disc_dataset, tmp_path / "data", {}, change)
    training, validation = load_fold(folder, 0, "training", unlabelled=True), load_fold(folder, 0, "validation")
    assert "age" not in list_data_collate(training)
    assert list_data_collate(validation)["labelled"].all()


def test_a_patient_of_an_image_in_a_list_of_the_decathlon(disc_dataset, tmp_path):
    def change(_number: int, entry: dict) -> None:
        for key in set(entry) - {"image", "label"}:
            del entry[key]

    folder = with_one_more(disc_dataset, tmp_path / "data", {"patient": "u"}, change)
    assert load_fold(folder, 0, "training", unlabelled=True)[-1]["patient"] == "u"


def test_the_same_image_in_the_validation_is_a_leak(disc_dataset, tmp_path, caplog):
    test_an_image_alone_is_trained_on_whatever_fold_validates(disc_dataset, tmp_path)
    assert "have images that are in the training part too (0000.nii.gz is u1.nii.gz)" in caplog.text


def test_lists_of_the_decathlon(disc_dataset, tmp_path):
    """Folds are drawn for what has a label."""
    folder = tmp_path / "data"
    shutil.copytree(disc_dataset, folder)
    content = json.loads((folder / "datalist.json").read_text())
    entries = [{key: entry[key] for key in ("image", "label")} for entry in content["training"]]
    more = [{"image": entry.pop("image"), "labelled": False} for entry in entries[10:]]
    for name, training in (("datalist", entries[:10]), ("both", entries[:10] + more)):
        (folder / "datalist.json").write_text(json.dumps({"training": training}))
        found = [[entry["source"] for entry in load_fold(folder, fold, "validation")] for fold in range(5)]
        if name == "datalist":
            expected = found
    assert found == expected
    assert len(load_fold(folder, 0, "training", unlabelled=True)) == 10


def test_hidden_labels_leave_no_trace(class_dataset):
    entries = load_classes(class_dataset, 0, "training", labelled_share=0.5, unlabelled=True)
    hidden = [entry for entry in entries if not entry["labelled"]]
    assert {entry["class"] for entry in hidden} == {0}
    assert len(hidden) == 6


def test_the_validation_keeps_all_labels(disc_dataset):
    assert load_fold(disc_dataset, 0, "validation", labelled_share=0.1) == load_fold(disc_dataset, 0, "validation")


def test_a_validation_without_labels(disc_dataset, tmp_path):
    folder = marked(disc_dataset, tmp_path / "data", {"P0", "P3"})
    with pytest.raises(ValueError, match=r"none of the validation images of .* has a label"):
        load_fold(folder, 0, "validation")


def test_no_training_image_has_a_label(class_dataset, tmp_path):
    """Where the teacher alone knows, no class needs an example."""
    folder = marked(class_dataset, tmp_path / "data", {f"P{number}" for number in range(9) if number % 3})
    assert not any(map(is_labelled, load_classes(folder, 0, "training", unlabelled=True)))
    with pytest.raises(ValueError, match="none of the training images"):
        load_classes(folder, 0, "training")


def test_a_class_that_only_unlabelled_slices_may_show(class_dataset, tmp_path):
    folder = marked(class_dataset, tmp_path / "data", {"P1", "P2"})  # class 0 outside of fold 0
    with pytest.raises(ValueError, match="no training slice shows meningioma: choose"):
        load_classes(folder, 0, "training", unlabelled=True)
    with pytest.raises(ValueError, match="no training slice shows meningioma: give a larger labelled_share"):
        load_classes(folder, 0, "training", unlabelled=True, labelled_share=0.5)


def test_class_weights_need_labels():
    with pytest.raises(ValueError, match="no training image has a label whose class could be counted"):
        class_weights([{"class": 0, "labelled": False}], ["a", "b"], "balanced")


def test_class_weights_count_labels_alone():
    entries = [{"class": 0, "labelled": False}] * 5 + [{"class": 0}, {"class": 1}, {"class": 1}, {"class": 1}]
    assert torch.equal(
        class_weights(entries, ["a", "b"], "balanced"), class_weights(entries[5:], ["a", "b"], "balanced")
    )


def test_slices_without_a_tumour_have_a_label(disc_dataset, tmp_path):
    folder = marked(disc_dataset, tmp_path / "data", {"P1"})
    heads = tmp_path / "heads"
    shutil.copytree(disc_dataset, heads)
    content = json.loads((heads / "datalist.json").read_text())
    for number, entry in enumerate(content["training"]):
        entry.update(tumour=False, patient=f"H{number}", group=f"H{number}")
    (heads / "datalist.json").write_text(json.dumps(content))
    entries = add_negatives(lambda part: load_fold(folder, 0, part, unlabelled=True), heads, ["a", "b", "c"])
    assert len({frozenset(entry) for entry in entries}) == 1
    assert Counter((entry["tumour"], entry["labelled"]) for entry in entries) == {
        **{(True, True): 6, (True, False): 2},
        (False, True): 12,
    }


def test_items_of_all_kinds_can_be_in_one_batch(disc_dataset, tmp_path):
    """Patients by number, and images without any."""
    folder = tmp_path / "data"
    shutil.copytree(disc_dataset, folder)
    content = json.loads((folder / "datalist.json").read_text())
    for number, entry in enumerate(content["training"]):
        entry.update(patient=number, group=number)
    (folder / "more.nii.gz").write_bytes((folder / "images" / "0000.nii.gz").read_bytes())
    content["training"].append({"image": "more.nii.gz", "labelled": False})
    (folder / "datalist.json").write_text(json.dumps(content))
    entries = add_negatives(lambda part: load_fold(folder, 0, part, unlabelled=True), write_heads(tmp_path / "h"), [])
    batch = list_data_collate(entries)
    assert (batch["patient"][0], batch["patient"][8]) == ("2", "more")
    assert batch["fold"].tolist()[8] == -1
    assert batch["labelled"].tolist() == [entry["image"].endswith("more.nii.gz") is False for entry in entries]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("labelled", "no", "entry 2 has the 'labelled' 'no'; it must be true or false"),
        ("tumour", False, "entry 2, .* remove one of the two"),
    ],
)
def test_marks_that_contradict(disc_dataset, tmp_path, key, value, message):
    folder = marked(disc_dataset, tmp_path / "data", {"P1"})
    content = json.loads((folder / "datalist.json").read_text())
    for entry in content["training"]:
        if entry["group"] == "P1":
            entry[key] = value
    (folder / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load_fold(folder, 0, "training")


def test_volumes_need_labels(disc_dataset):
    with pytest.raises(ValueError, match="all volumes need labels: labelled_share must be 1"):
        load_volumes(disc_dataset, 0, "training", labelled_share=0.5)
