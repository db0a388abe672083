"""One network for masks and classes: trained, taken apart, and used as both."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from disc_slices import write_disc_slices
from monai.bundle import create_workflow
from students import segmentation_student
from tiny import BUNDLES, TINY_STUDENT, cause, infer, rows, settings_of, untrained

from monai_kd.__main__ import main
from monai_kd.bundle import trained_network, trained_settings
from monai_kd.data import load_fold
from monai_kd.io.trained import read_trained

CONFIGS = BUNDLES / "seg_student" / "configs"
OVERLAY = CONFIGS / "students" / "timm_lite0_classes_pretrained.json"
NAMES = ["meningioma", "glioma", "pituitary"]


def train(dataset: Path, output_dir: Path, **more):
    values = {**TINY_STUDENT, "pretrained": False, "recipe": "none", "network_def#encoder": "mobilenetv3_small_050"}
    values |= {"dataset_dir": str(dataset), "output_dir": str(output_dir), **more}
    workflow = create_workflow(config_file=[str(CONFIGS / "train.json"), str(OVERLAY)], workflow_type="train", **values)
    workflow.run()
    workflow.finalize()
    return workflow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_disc_slices(tmp_path_factory.mktemp("discs"), 24)


@pytest.fixture(scope="module")
def checkpoint(dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    train(dataset, folder, negative_probability=0.3)
    return folder / "model.pt"


@pytest.fixture(scope="module")
def head(checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("head") / "classifier"
    assert main(["class_head", str(checkpoint), str(folder)]) == 0
    return folder / "model.pt"


def test_both_tasks_are_trained(checkpoint):
    assert {"loss/supervised", "loss/class", "val/dice"} <= rows(checkpoint.parent)[-1].keys()
    settings = settings_of(checkpoint.parent)
    assert settings["weights"] == {"supervised": 1, "class": 0.5}
    assert settings["network_def"]["classes"] == 4
    assert settings["class_names"] == NAMES
    # From the settings alone, as all programs build it.
    assert trained_network(trained_settings(checkpoint), checkpoint).classes == 4


def test_a_teacher_of_masks_teaches_it(dataset, tmp_path):
    teacher = untrained("seg_teacher", tmp_path / "teacher", fold=0, mask_names=["tumour"])
    train(dataset, tmp_path / "run", recipe="kd", epochs=1, teacher_checkpoint=str(teacher))
    assert {"loss/supervised", "loss/logit", "loss/class"} <= rows(tmp_path / "run")[-1].keys()


def test_the_class_of_an_entry_is_learnt(tmp_path):
    """Of slices that show it by a bright corner, which the mask leaves out."""
    folder = write_disc_slices(tmp_path / "data", 24, class_of=lambda patient: 2 * (patient % 2))
    for entry in load_fold(folder, 0, "all"):
        if entry["class"]:
            image = nib.load(entry["image"])
            pixels = np.asarray(image.dataobj).copy()
            pixels[:20, :20] = 600
            nib.save(nib.Nifti1Image(pixels, image.affine), entry["image"])
    more = {"class_weight": 1.0, "epochs": 10, "batch_size": 8, "flip_probability": 0}
    workflow = train(folder, tmp_path / "run", **more)
    found = rows(tmp_path / "run")
    assert min(row["loss/class"] for row in found) < 0.5 * found[0]["loss/class"]
    network, items = (workflow.parser.get_parsed_content(name) for name in ("network", "train#dataset"))
    with torch.no_grad():
        classes = network.train()(torch.stack([item["image"] for item in items]))[1]
    assert classes.argmax(1).tolist() == [item["class"] for item in items]


def test_the_classifier_is_one_of_cls_student(checkpoint, head, dataset, tmp_path):
    settings = trained_settings(head, BUNDLES / "cls_student")
    assert settings["class_names"] == [*NAMES, "no tumour"]
    seen = trained_settings(checkpoint)
    assert [settings[name] for name in ("fold", "datalist_sha256", "mean", "std", "image_size")] == [
        seen[name] for name in ("fold", "datalist_sha256", "mean", "std", "image_size")
    ]
    both, alone = (trained_network(trained_settings(each), each) for each in (checkpoint, head))
    for module in both.train().modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(both(image)[1], alone.eval()(image))
    infer("cls_student", "evaluate", dataset_dir=str(dataset), checkpoint=str(head), output_dir=str(tmp_path))
    with open(tmp_path / "slices.csv", newline="") as file:
        assert {f"p_{name}" for name in settings["class_names"]} <= next(csv.DictReader(file)).keys()


def test_it_is_the_second_reader_of_its_own_masks(checkpoint, head, dataset, tmp_path):
    more = {"negative_share": 0.5, "classifier": str(head), "specificity": 0.5}
    infer(
        "seg_student",
        "evaluate",
        dataset_dir=str(dataset),
        checkpoint=str(checkpoint),
        output_dir=str(tmp_path),
        **more,
    )
    with open(tmp_path / "slices.csv", newline="") as file:
        assert all(0 <= float(row["p_tumour"]) <= 1 for row in csv.DictReader(file))
    assert read_trained(checkpoint)["operating_point"]["classifier"]


def test_report_uses_both(checkpoint, head, dataset, tmp_path):
    image = load_fold(dataset, 0, "validation")[0]["image"]
    given = ["--segmentation", str(checkpoint), "--classification", str(head), "--device", "cpu"]
    assert main(["report", image, "--output_dir", str(tmp_path), *given]) == 0
    with open(tmp_path / "report.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    probabilities = [float(value) for name, value in row.items() if name.startswith("p_")]
    assert len(probabilities) == 4
    np.testing.assert_allclose(sum(probabilities), 1, atol=1e-3)


def test_a_network_of_masks_alone_has_no_class_head(tmp_path, capsys):
    (tmp_path / "student").mkdir()
    assert main(["class_head", str(segmentation_student(tmp_path / "student")), str(tmp_path / "out")]) == 2
    assert "gives no classes, but masks alone" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_class_head_that_was_not_trained_is_no_classifier(checkpoint, tmp_path, capsys):
    copied = tmp_path / "copy"
    copied.mkdir()
    (copied / "model.pt").write_bytes(checkpoint.read_bytes())
    settings = {**settings_of(checkpoint.parent), "weights": {"supervised": 1}}
    (copied / "settings.json").write_text(json.dumps(settings))
    assert main(["class_head", str(copied / "model.pt"), str(tmp_path / "out")]) == 2
    assert "was trained without the loss term `class`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_names_must_fit_the_classes(checkpoint, tmp_path, capsys):
    settings = settings_of(checkpoint.parent)
    copied = tmp_path / "copy"
    copied.mkdir()
    (copied / "model.pt").write_bytes(checkpoint.read_bytes())
    (copied / "settings.json").write_text(json.dumps({**settings, "class_names": NAMES[:2]}))
    assert main(["class_head", str(copied / "model.pt"), str(tmp_path / "out")]) == 2
    assert "gives 4 classes, and its settings name 2" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [2, 3])
def test_a_class_that_the_network_does_not_have(dataset, tmp_path, classes):
    with pytest.raises(RuntimeError) as raised:
        train(dataset, tmp_path, **{"network_def#classes": classes})
    assert "network_def must have one more of `classes`" in cause(raised.value)
