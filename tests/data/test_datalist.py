"""The data list: what its entries and its names of classes must have."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from monai_kd.data import class_names, load_classes, load_fold, mask_value, read_datalist


def write(folder: Path, labels: object = None, entry: dict | None = None) -> Path:
    """Two slices in two folds, of two classes; images are there, masks are not, and the second entry names none."""
    files = [{"image": "a.png", "label": "absent.png"}, {"image": "b.png"}]
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"")
    of = {"patient": "7", "group": "7", "source": "7.mat"}
    content = {"training": [{**own, **of, "class": n, "fold": n, **(entry or {})} for n, own in enumerate(files)]}
    if labels is not None:
        content["labels"] = labels
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


def test_classification_needs_no_masks(tmp_path):
    found = load_classes(write(tmp_path, {"1": "a", "2": "b"}), None, "all")
    # the same keys in all entries, or a loader could not make a batch of them
    assert [(entry["image"], entry["class"]) for entry in found] == [
        (str(tmp_path / "a.png"), 0),
        (str(tmp_path / "b.png"), 1),
    ]
    assert found[0].keys() == found[1].keys()


def test_segmentation_needs_masks(tmp_path):
    folder = write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lists 1 files that do not exist: .*absent\.png"):
        load_fold(folder, 0, "validation")
    with pytest.raises(ValueError, match=r"datalist\.json: the entry .*b\.png.* has no 'label'"):
        load_fold(folder, 0, "training")


@pytest.mark.parametrize("image", [None, 7])
def test_an_entry_without_an_image(tmp_path, image):
    with pytest.raises(ValueError, match=r"datalist\.json: entry 0 has the 'image' (None|7); it must be the path"):
        load_fold(write(tmp_path, entry={"image": image}), None, "all", keys=["image"])


@pytest.mark.parametrize(
    "content",
    [
        *('{"training": true}', '{"training": {"image": "a.png"}}', '{"training": "a.png"}', "[]", "7"),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_json_that_is_no_data_list(tmp_path, content):
    (tmp_path / "datalist.json").write_text(content)
    with pytest.raises(ValueError, match=r"datalist\.json is not a data list: it must be JSON with a list 'training'"):
        load_fold(tmp_path, 0, "training")


TYPES = [
    *((key, value) for key in ("fold", "class", "slice") for value in ("0", 0.0, None, [0], {}, True, -1)),
    *((key, value) for key in ("patient", "group") for value in ([], ["7"], {"7": 7}, None, False)),
    *(("image", value) for value in (None, 5, "", [], ["a.png", 5], {"0": "a.png"})),
    *(("label", value) for value in (5, "", ["a.png"], False)),
    *(("source", value) for value in (None, 7, "", ["7.mat"])),
    *((key, value) for key in ("tumour", "labelled") for value in ("no", 0, None)),
]


@pytest.mark.parametrize(("key", "value"), TYPES)
def test_a_value_of_another_type(tmp_path, key, value):
    folder = write(tmp_path, {"1": "a", "2": "b"})
    content = json.loads((folder / "datalist.json").read_text())
    content["training"][1][key] = value
    (folder / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=rf"datalist\.json: entry 1 has the '{key}' {re.escape(repr(value))}; it must be"
    ):
        read_datalist(folder)


@pytest.mark.parametrize("entry", [None, "a.png", ["a.png"], 7])
def test_an_entry_that_is_no_object(tmp_path, entry):
    folder = write(tmp_path)
    content = json.loads((folder / "datalist.json").read_text())
    (folder / "datalist.json").write_text(json.dumps({"training": [*content["training"], entry]}))
    with pytest.raises(ValueError, match=r"datalist\.json: entry 2 is .*; it must be an object with image, patient"):
        read_datalist(folder)


@pytest.mark.parametrize("number", [2, 7])
def test_a_class_that_labels_do_not_name(tmp_path, number):
    folder = write(tmp_path, {"1": "a", "2": "b"}, {"class": number})
    message = rf"entry 0, 'a\.png', has the class {number}; 'labels' names 2, so that classes are 0 to 1"
    with pytest.raises(ValueError, match=message):
        load_fold(folder, 0, "training", keys=["image"])


@pytest.mark.parametrize("classes", [{}, {"class": 2}])
def test_slices_without_a_tumour_may_be_of_the_class_after_the_last(tmp_path, classes):
    folder = write(tmp_path, {"1": "a", "2": "b"})
    content = json.loads((folder / "datalist.json").read_text())
    del content["training"][1]["class"]
    content["training"][1].update({"tumour": False, **classes})
    (folder / "datalist.json").write_text(json.dumps(content))
    assert load_fold(folder, 1, "validation")[0]["class"] == 2


FILES = ["flair.png", "t1.png"]


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        *(
            ({"image": "a.png"}, {"image": image}, True)
            for image in ("a.png", "./a.png", "sub/../a.png", "{folder}/a.png")
        ),
        ({"image": FILES}, {"image": FILES}, True),
        ({"image": FILES}, {"image": FILES[::-1]}, False),
        ({"image": "a.nii", "slice": 3}, {"image": "a.nii", "slice": 3}, True),
        ({"image": "a.nii", "slice": 3}, {"image": "a.nii", "slice": 4}, False),
        # Without a number, all slices of the file.
        ({"image": "a.nii", "slice": 0}, {"image": "a.nii"}, True),
        ({"image": "a.nii"}, {"image": "a.nii", "slice": 0}, True),
    ],
)
def test_a_slice_is_listed_once(tmp_path, one, other, both):
    """Also where all else is the same: it would count twice."""
    folder = write(tmp_path)
    content = json.loads((folder / "datalist.json").read_text())
    between, last = content["training"]
    if isinstance(other["image"], str):
        other = {**other, "image": other["image"].format(folder=folder)}
    listed = [{**last, **one}, {**between, "image": "between.png"}, {**last, **other}]
    (folder / "datalist.json").write_text(json.dumps({"training": listed}))
    if not both:
        assert len(read_datalist(folder)["training"]) == 3
        return
    with pytest.raises(ValueError, match=r"datalist\.json: the entries 0 and 2 are both of the image .*: leave one of"):
        read_datalist(folder)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_names_by_their_numbers(tmp_path, count):
    labels = {str(number): f"name {number}" for number in range(count, 0, -1)}
    assert class_names(write(tmp_path, labels, {"class": 0})) == [f"name {number}" for number in range(1, count + 1)]


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        ["glioma", "meningioma"],
        "glioma",
        {"0": "background", "1": "glioma", "2": "meningioma"},
        {"1": "glioma", "3": "meningioma"},
        {"2": "glioma", "3": "meningioma"},
        {"glioma": 1, "meningioma": 2},
        {"1": "glioma", "02": "meningioma"},
    ],
)
def test_names_that_are_not_numbered_from_one(tmp_path, labels):
    with pytest.raises(ValueError, match=r"the keys of 'labels' must be \"1\", \"2\", … without gaps"):
        class_names(write(tmp_path, labels))


@pytest.mark.parametrize("labels", [{"1": "glioma", "2": "glioma"}, {"1": "glioma", "2": ""}, {"1": "1", "2": 1}])
def test_names_that_do_not_tell_classes_apart(tmp_path, labels):
    with pytest.raises(ValueError, match="must give each class a name of its own"):
        class_names(write(tmp_path, labels))


@pytest.mark.parametrize("lacking", ["image", "fold", "group", "class"])
def test_a_list_that_was_made_otherwise(tmp_path, lacking):
    folder = write(tmp_path)
    content = json.loads((folder / "datalist.json").read_text())
    del content["training"][1][lacking]
    (folder / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"datalist\.json: entry 1.* has no {lacking}; see docs/data\.md"):
        load_fold(folder, 0, "training")


@pytest.mark.parametrize("value", [1, 255, None])
def test_values_of_masks(tmp_path, value):
    folder = write(tmp_path)
    content = json.loads((folder / "datalist.json").read_text())
    (folder / "datalist.json").write_text(json.dumps({**content, **({} if value is None else {"mask_value": value})}))
    assert mask_value(folder) == value


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "255", [1], {"1": 1}])
def test_values_of_masks_that_are_none(tmp_path, value):
    folder = write(tmp_path)
    content = json.loads((folder / "datalist.json").read_text())
    (folder / "datalist.json").write_text(json.dumps({**content, "mask_value": value}))
    with pytest.raises(ValueError, match=r"datalist\.json: 'mask_value' must be the value of tumour pixels"):
        mask_value(folder)


@pytest.mark.parametrize("leave_out", [[5], 1, "1", ["1"]])
def test_folds_to_leave_out_must_be_there(tmp_path, leave_out):
    with pytest.raises(ValueError, match=r"leave_out must be a list of folds, such as \[0\], .* the folds \[0, 1\]"):
        load_fold(write(tmp_path), 0, "all", leave_out)


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A data set beside files that are not of it: one that is linked to, and one in a folder of a similar name."""
    folder = tmp_path / "set"
    for each in (folder, tmp_path / "set2"):
        each.mkdir()
    for file in (folder / "inside.png", tmp_path / "secret.png", tmp_path / "set2" / "a.png"):
        file.write_bytes(b"")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "own.png").symlink_to(folder / "inside.png")
    return write(folder, {"1": "a", "2": "b"})


def relabel(dataset: Path, key: str, path: str) -> None:
    content = json.loads((dataset / "datalist.json").read_text())
    content["training"][1][key] = path
    (dataset / "datalist.json").write_text(json.dumps(content))


@pytest.mark.parametrize("key", ["image", "label", "scan"])
@pytest.mark.parametrize(
    "path",
    ["../secret.png", "{above}/secret.png", "link.png", "linked/secret.png", "sub/../../secret.png", "../set2/a.png"],
)
def test_files_outside_are_refused_unless_asked_for(key, path, dataset):
    relabel(dataset, key, path.format(above=dataset.parent))
    (dataset / "sub").mkdir()
    message = (
        rf"datalist\.json: '{key}' of entry 1, '.*\.png', is a file outside the folder, .*; set allow_outside to True"
    )
    with pytest.raises(ValueError, match=message) as caught:
        load_fold(dataset, 1, "validation", keys=[key])
    assert "\n" not in str(caught.value)
    (entry,) = load_fold(dataset, 1, "validation", keys=[key], allow_outside=True)
    assert Path(entry[key]).is_file()
    if key != "scan":
        with pytest.raises(ValueError, match="set allow_outside to True"):
            read_datalist(dataset)
        with pytest.raises(ValueError, match="set allow_outside to True"):
            load_classes(dataset, None, "all")
    if key == "image":
        assert len(load_classes(dataset, None, "all", allow_outside=True)) == 2
    # Whoever reads only names of classes opens no file.
    assert class_names(dataset) == ["a", "b"]


@pytest.mark.parametrize("path", ["inside.png", "./inside.png", "sub/../inside.png", "own.png", "{folder}/inside.png"])
def test_files_inside_are_taken_however_they_are_written(path, dataset):
    (dataset / "sub").mkdir()
    relabel(dataset, "image", path.format(folder=dataset))
    (entry,) = load_fold(dataset, 1, "validation", keys=["image"])
    assert Path(entry["image"]).resolve() == (dataset / "inside.png").resolve()


def test_the_folder_itself_may_be_a_link(dataset):
    relabel(dataset, "image", "inside.png")
    (dataset.parent / "other").symlink_to(dataset)
    assert len(load_fold(dataset.parent / "other", None, "all", keys=["image"])) == 2


def with_negative(folder: Path, disc_dataset: Path, **keys: object) -> Path:
    """`disc_dataset`, in which the first entry is a slice without a tumour."""
    shutil.copytree(disc_dataset, folder)
    content = json.loads((folder / "datalist.json").read_text())
    first = content["training"][0]
    del first["label"], first["class"]
    content["training"][0] = {**first, "tumour": False, **keys}
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


def test_slices_without_a_tumour_need_no_label_and_no_class(disc_dataset, tmp_path):
    folder = with_negative(tmp_path / "data", disc_dataset)
    entries = load_fold(folder, 0, "validation")
    assert [entry["tumour"] for entry in entries] == [False, True, True, True]
    assert entries[0]["label"] == entries[0]["image"] == str(folder / "images" / "0000.nii.gz")
    assert entries[0]["class"] == 3  # after those of 'labels'
    assert entries[1].keys() == entries[0].keys()  # or they would not fit into one batch
    empty = with_negative(tmp_path / "empty", disc_dataset, label="labels/0000.nii.gz")
    assert load_fold(empty, 0, "validation")[0]["label"].endswith("labels/0000.nii.gz")


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"tumour": "no"}, "entry 0 has the 'tumour' 'no'; it must be true or false"),
        ({"tumour": True, "class": 0, "label": "images/0000.nii.gz"}, "has its image as its label"),
    ],
)
def test_other_marks_are_refused(disc_dataset, tmp_path, keys, match):
    folder = with_negative(tmp_path / "data", disc_dataset, **keys)
    with pytest.raises(ValueError, match=match):
        load_fold(folder, 0, "validation")


def test_slices_without_a_tumour_are_a_class_of_their_own(disc_dataset, tmp_path):
    folder = with_negative(tmp_path / "data", disc_dataset)
    with pytest.raises(ValueError, match='add "4": "no tumour"'):
        load_classes(folder, 0, "all")
    content = json.loads((folder / "datalist.json").read_text())
    content["labels"]["4"] = "no tumour"
    (folder / "datalist.json").write_text(json.dumps(content))
    entries = load_classes(folder, 0, "all")
    assert [entry["class"] for entry in entries[:3]] == [3, 0, 1]
    assert "label" not in entries[0]


def test_a_list_that_is_no_utf_8_is_not_quoted(tmp_path):
    """It may hold the names of patients."""
    (tmp_path / "datalist.json").write_bytes('{"training": [{"patient": "M\u00fcller"}]}'.encode("latin-1"))
    with pytest.raises(ValueError, match="UnicodeDecodeError: 'utf-8' codec can't decode byte 0xfc") as raised:
        read_datalist(tmp_path)
    assert "ller" not in str(raised.value)
