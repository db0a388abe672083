"""Segmentation of several classes by the bundles: training, evaluation, inference."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from class_students import NAMES, SIZE, banded, classes_student, indices, nested
from monai.bundle import create_workflow
from PIL import Image
from tiny import cause, config

from monai_kd.metrics import MASK_METRICS, paired_differences, read_slices

QUIET = {"device": "cpu", "amp": False, "logging_file": False}
TINY = {**QUIET, "image_size": 32, "epochs": 1, "batch_size": 4, "features": [4, 4, 8, 8, 8, 4], "multiclass": True}
TINY_TEACHER = {"vit_name": "vit_tiny_patch16_224", "vit_image_size": 32}
GEOMETRY = np.diag([-0.5, -0.75, 6, 1])


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def run(bundle: str, name: str, output_dir: Path, **values) -> None:
    kind = "train" if name == "train" else "infer"
    workflow = create_workflow(
        config_file=config(bundle, name), workflow_type=kind, output_dir=str(output_dir), **values
    )
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()


@pytest.fixture(scope="module")
def teacher(class_dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    run("seg_teacher", "train", folder, dataset_dir=str(class_dataset), **TINY, **TINY_TEACHER)
    return folder


def test_teacher_has_a_channel_for_the_background_and_each_class(teacher):
    settings = json.loads((teacher / "settings.json").read_text())
    assert settings["network_def"]["out_channels"] == 4
    assert (settings["activation"], settings["mask_names"]) == ("softmax", NAMES)
    assert (teacher / "overlays.png").is_file()


@pytest.mark.parametrize(
    "values",
    [
        {"recipe": "none"},
        {"recipe": "kd_plus_plus"},
        {"weights": {"supervised": 1, "output": 0.5, "pooled_feature": 0.1}},
    ],
    ids=lambda values: next(iter(values.values())) if "recipe" in values else "weights",
)
def test_recipes_train(values, teacher, class_dataset, tmp_path):
    given = {"teacher_checkpoint": str(teacher / "model.pt")} if values.get("recipe") != "none" else {}
    run("seg_student", "train", tmp_path, dataset_dir=str(class_dataset), **TINY, **values, **given)
    (log,) = rows(tmp_path / "log.csv")
    assert all(np.isfinite(float(value)) for value in log.values() if value)
    assert 0 <= float(log["val/dice"]) <= 1
    assert (tmp_path / "overlays.png").is_file()


@pytest.mark.parametrize("recipe", ["basic", "basic_pooled"])
def test_binary_cross_entropy_is_refused_before_anything_runs(recipe, class_dataset, tmp_path):
    with pytest.raises(Exception) as error:
        run("seg_student", "train", tmp_path, dataset_dir=str(class_dataset), recipe=recipe, **TINY)
    assert "take a recipe with 'supervised'" in cause(error.value)
    assert not list(tmp_path.iterdir())


def _as_if(teacher: Path, folder: Path, **settings) -> str:
    content = json.loads((teacher / "settings.json").read_text()) | settings
    content.pop("weights_sha256")
    (folder / "model.pt").write_bytes((teacher / "model.pt").read_bytes())
    (folder / "settings.json").write_text(json.dumps(content))
    return str(folder / "model.pt")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"multiclass": False, "activation": "sigmoid", "mask_names": ["tumour"]}, id="one class"),
        # as many channels, which mean something else
        pytest.param({"multiclass": False, "activation": "sigmoid", "mask_names": ["0", *NAMES]}, id="sigmoid"),
    ],
)
def test_teacher_of_other_masks_is_refused(settings, teacher, class_dataset, tmp_path):
    (tmp_path / "teacher").mkdir()
    checkpoint = _as_if(teacher, tmp_path / "teacher", **settings)
    with pytest.raises(Exception) as error:
        run(
            *("seg_student", "train", tmp_path / "out"),
            **{"dataset_dir": str(class_dataset), "teacher_checkpoint": checkpoint, **TINY},
        )
    said = cause(error.value)
    assert "the student segments meningioma, glioma, pituitary (softmax), and teacher_checkpoint" in said
    assert f" {', '.join(settings['mask_names'])} (sigmoid)" in said


def test_trains_on_labels_that_hold_the_numbers_of_the_classes(tmp_path):
    """As MONAI Label gives them: items without a class, masks drawn with the labels of the app."""
    checkpoint = classes_student(tmp_path / "model")
    items = []
    for number in range(4):
        names = [str(tmp_path / f"{kind}{number}.nii.gz") for kind in ("image", "label")]
        for name, array in zip(names, (banded() * 1000, indices(banded())), strict=True):
            nib.save(nib.Nifti1Image(array.astype(np.int16), GEOMETRY), name)
        items.append(dict(zip(("image", "label"), names, strict=True)))
    workflow = create_workflow(
        config_file=config("seg_student", "train"),
        workflow_type="train",
        **{**QUIET, "bundle_root": str(Path(config("seg_student", "train")[0]).parents[1])},
        **{"init_checkpoint": str(checkpoint), "train#dataset#data": items, "output_dir": str(tmp_path / "out")},
        **{"epochs": 1, "batch_size": 2, "validate#dataset#data": items},
    )
    labels = workflow.parser.get_parsed_content("validate#dataset")[0]["label"]
    assert sorted(labels.unique().tolist()) == [0, 1, 2, 3]
    workflow.run()
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (settings["multiclass"], settings["mask_names"]) == (True, NAMES)


# Evaluation ----------------------------------------------------------------------------------------------------------

SHOWN = [0, 1, 2, 0]  # the class that each slice is said to show


def dataset(folder: Path, png: bool = False) -> Path:
    """Slices with all classes in the image; the mask of each is of one class, shifted by two pixels."""
    folder.mkdir(parents=True)
    entries = []
    for number, shown in enumerate(SHOWN):
        image, mask = banded() * 200, np.roll(indices(banded()) == shown + 1, 2, axis=0)
        names = [f"{kind}{number}.{'png' if png else 'nii.gz'}" for kind in ("image", "label")]
        for name, array in zip(names, (image, mask * (255 if png else 1)), strict=True):
            if png:
                Image.fromarray(array.round().astype(np.uint8).T).save(folder / name)
            else:
                nib.save(nib.Nifti1Image(array.round().astype(np.int16)[..., None], GEOMETRY), folder / name)
        person = {"class": shown, "patient": f"P{number % 2}", "group": f"P{number % 2}", "fold": 0}
        entries.append({"image": names[0], "label": names[1], **person, "source": f"{number}.mat"})
    labels = {str(number): name for number, name in enumerate(NAMES, 1)}
    content = {"name": "bands", "labels": labels, "spacing": [0.5, 0.75, 6], "training": entries}
    (folder / "datalist.json").write_text(json.dumps(content | ({"mask_value": 255} if png else {})))
    return folder


@pytest.mark.parametrize("png", [False, True], ids=["nifti", "png"])
def test_evaluation_is_that_of_each_class(png, tmp_path):
    data = dataset(tmp_path / "data", png)
    values = {"checkpoint": str(classes_student(tmp_path / "model")), "dataset_dir": str(data), "bootstrap": 20}
    run("seg_student", "evaluate", tmp_path / "out", **QUIET, **values)
    slices = rows(tmp_path / "out" / "slices.csv")
    predicted = indices(banded())
    dices: dict[str, list[float]] = {name: [] for name in NAMES}
    for row, shown in zip(slices, SHOWN, strict=True):
        each = {}
        for number, name in enumerate(NAMES):
            p = predicted == number + 1
            t = np.roll(p, 2, axis=0) if number == shown else np.zeros_like(p)
            each[name] = 2 * (p & t).sum() / (p.sum() + t.sum())
            assert float(row[f"dice_{name}"]) == pytest.approx(each[name])
            assert float(row[f"predicted_area_mm2_{name}"]) == pytest.approx(0.375 * p.sum())
            assert float(row[f"truth_area_mm2_{name}"]) == pytest.approx(0.375 * t.sum())
            assert (row[f"sensitivity_{name}"] == "") == (number != shown)
            dices[name].append(each[name])
        assert float(row["dice"]) == pytest.approx(np.mean([*each.values()]))
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics["masks"]) == NAMES
    for name in NAMES:
        part = metrics["masks"][name]
        assert list(part["metrics"]) == list(MASK_METRICS)
        assert part["metrics"]["dice"]["over_slices"]["mean"] == pytest.approx(np.mean(dices[name]))
    patients = rows(tmp_path / "out" / "patients.csv")
    assert float(patients[0]["dice_glioma"]) == pytest.approx(np.mean(dices["glioma"][::2]))
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"dice.png", "overlays.png"}
    # compared with itself, class by class
    read = read_slices(tmp_path / "out")
    found = paired_differences(read, read, 20)
    assert {"dice", *(f"dice_{name}" for name in NAMES)} <= set(found)


def test_data_of_other_classes_are_not_evaluated(tmp_path):
    data, checkpoint = dataset(tmp_path / "data"), classes_student(tmp_path / "model")
    content = json.loads((data / "datalist.json").read_text())
    content["labels"] = {str(number): name for number, name in enumerate(NAMES[::-1], 1)}
    (data / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError) as raised:
        run("seg_student", "evaluate", tmp_path / "out", **QUIET, checkpoint=str(checkpoint), dataset_dir=str(data))
    assert f"was trained for the classes {', '.join(NAMES)}; " in cause(raised.value)
    assert f"has the classes {', '.join(NAMES[::-1])}, in this order" in cause(raised.value)
    assert not (tmp_path / "out" / "metrics.json").exists()


@pytest.mark.parametrize(("name", "value"), [("multiclass", False), ("image_size", 2 * SIZE)])
def test_what_the_network_was_trained_with_is_no_option(name, value, tmp_path):
    data, checkpoint = dataset(tmp_path / "data"), classes_student(tmp_path / "model")
    values = {"checkpoint": str(checkpoint), "dataset_dir": str(data), name: value}
    with pytest.raises(RuntimeError) as raised:
        run("seg_student", "evaluate", tmp_path / "out", **QUIET, **values)
    assert f"--{name} {value} is no option: the network was trained with {name}" in cause(raised.value)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_key_metric_is_the_mean_dice_of_the_shown_classes(tmp_path):
    values = {"checkpoint": str(classes_student(tmp_path / "model")), "bootstrap": 0, **QUIET}
    workflow = create_workflow(
        config_file=config("seg_student", "evaluate"),
        workflow_type="infer",
        **{**values, "dataset_dir": str(dataset(tmp_path / "data")), "output_dir": str(tmp_path / "out")},
    )
    workflow.run()
    slices = rows(tmp_path / "out" / "slices.csv")
    shown = [float(row[f"dice_{NAMES[number]}"]) for row, number in zip(slices, SHOWN, strict=True)]
    assert workflow.evaluator.state.metrics["dice"] == pytest.approx(np.mean(shown))


# Inference -----------------------------------------------------------------------------------------------------------


def inputs(folder: Path) -> Path:
    folder.mkdir()
    image = (banded() * 1000).round().astype(np.int16)
    nib.save(nib.Nifti1Image(image, GEOMETRY), folder / "plane.nii")
    volume = np.stack([image * 0, image, image[::-1]], axis=-1)
    volume[0, 0, 0] = 1000  # else the first slice is constant
    nib.save(nib.Nifti1Image(volume, GEOMETRY), folder / "volume.nii.gz")
    Image.fromarray((banded() * 200).round().astype(np.uint8).T).save(folder / "picture.png")
    return folder


def test_inference_measures_and_writes_each_class(tmp_path):
    values = {"checkpoint": str(classes_student(tmp_path / "model")), "input": str(inputs(tmp_path / "in"))}
    run("seg_student", "inference", tmp_path / "out", **QUIET, **values)
    found = {row["file"]: row for row in rows(tmp_path / "out" / "findings.csv")}
    expected = indices(banded())
    plane = nib.load(tmp_path / "out" / "plane_mask.nii")
    assert (plane.shape, plane.get_data_dtype()) == ((SIZE, SIZE), np.uint8)
    np.testing.assert_array_equal(np.asarray(plane.dataobj), expected)
    np.testing.assert_allclose(plane.affine, GEOMETRY)
    volume = np.asarray(nib.load(tmp_path / "out" / "volume_mask.nii.gz").dataobj)
    np.testing.assert_array_equal(volume[..., 1], expected)
    np.testing.assert_array_equal(volume[..., 2], expected[::-1])
    picture = Image.open(tmp_path / "out" / "picture_mask.png")
    np.testing.assert_array_equal(np.asarray(picture), expected.T)
    colours = np.asarray(picture.convert("RGB"))
    assert len(np.unique(colours.reshape(-1, 3), axis=0)) == 4
    assert (colours[expected.T == 0] == 0).all()
    for number, name in enumerate(NAMES, 1):
        row, mask = found["plane.nii"], expected == number
        assert int(row[f"area_px_{name}"]) == mask.sum()
        assert float(row[f"area_mm2_{name}"]) == pytest.approx(0.375 * mask.sum(), abs=0.005)
        x, y = np.nonzero(mask)
        assert [int(row[f"{end}_{name}"]) for end in ("x0", "x1", "y0", "y1")] == [x.min(), x.max(), y.min(), y.max()]
        assert float(row[f"mean_probability_{name}"]) > 0.9
        assert found["picture.png"][f"area_mm2_{name}"] == ""
        corner = int(number == 3)  # the bright pixel of the first slice
        assert int(found["volume.nii.gz"][f"slices_with_tumour_{name}"]) == 2 + corner
    assert int(found["plane.nii"]["area_px"]) == (expected > 0).sum()
    assert {row["class"] for row in found.values()} == {"glioma"}
    assert (tmp_path / "out" / "plane_overlay.png").is_file()


def test_classes_that_overlap_are_each_a_mask(tmp_path):
    names = ["whole", "core", "enhancing"]
    checkpoint = classes_student(tmp_path / "model", "sigmoid", names)
    values = {"checkpoint": str(checkpoint), "input": str(inputs(tmp_path / "in")), "smallest_area_mm2": 0.5}
    run("seg_student", "inference", tmp_path / "out", **QUIET, **values)
    found = {row["file"]: row for row in rows(tmp_path / "out" / "findings.csv")}
    expected = nested(banded())
    plane = nib.load(tmp_path / "out" / "plane_mask.nii")
    assert plane.shape == (SIZE, SIZE, 1, 3)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(plane.dataobj)[:, :, 0], -1, 0), expected)
    np.testing.assert_allclose(plane.affine, GEOMETRY)
    volume = np.asarray(nib.load(tmp_path / "out" / "volume_mask.nii.gz").dataobj)
    assert volume.shape == (SIZE, SIZE, 3, 3)
    np.testing.assert_array_equal(np.moveaxis(volume[:, :, 2], -1, 0), expected[:, ::-1])
    assert not volume[:, :, 0].any()  # one pixel is smaller than 0.5 mm²
    pixels = np.asarray(Image.open(tmp_path / "out" / "picture_mask.png"))
    for bit in range(3):
        np.testing.assert_array_equal(pixels >> bit & 1, expected[bit].T)
    row = found["plane.nii"]
    assert [int(row[f"area_px_{name}"]) for name in names] == [mask.sum() for mask in expected]
    assert (row["class"], int(row["area_px"])) == ("whole", expected[0].sum())


def test_overlapping_classes_are_evaluated_each_by_itself(tmp_path):
    """One mask file for all: the label of every class here, which is what an own step of post-processing would give."""
    names = ["whole", "core", "enhancing"]
    checkpoint = classes_student(tmp_path / "model", "sigmoid", names)
    data = dataset(tmp_path / "data")
    values = {"checkpoint": str(checkpoint), "dataset_dir": str(data), "bootstrap": 0, **QUIET}
    (file,) = config("seg_student", "evaluate")
    three = {"_target_": "RepeatChanneld", "keys": "label", "repeats": 3}
    values["label_transforms"] = [*json.loads(Path(file).read_text())["label_transforms"], three]
    run("seg_student", "evaluate", tmp_path / "out", **values)
    for row, shown in zip(rows(tmp_path / "out" / "slices.csv"), SHOWN, strict=True):
        truth = np.roll(indices(banded()) == shown + 1, 2, axis=0)
        for name, mask in zip(names, nested(banded()), strict=True):
            dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
            assert float(row[f"dice_{name}"]) == pytest.approx(dice)


def test_post_processing_in_training_keeps_overlapping_masks():
    from monai_kd.transforms import mask_postprocessing

    logits = torch.randn(3, 8, 8)
    found = mask_postprocessing("sigmoid", 3)({"pred": logits, "label": torch.ones(3, 8, 8)})
    assert torch.equal(torch.as_tensor(found["pred"]), (logits >= 0).float())
