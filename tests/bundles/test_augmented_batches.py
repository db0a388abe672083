"""Trainings whose batches are augmented on the device: repeated, resumed, recorded, handed to the teacher, refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import create_workflow
from tiny import CLS_TAUGHT_BY, OVERRIDES, SEG_TAUGHT_BY, cause, config, interrupted, prepare, rows, settings_of, train
from volumes import SMALL_TRAINING, write_volumes

kornia = pytest.importorskip("kornia.augmentation")

RECIPE = Path(__file__).resolve().parents[2] / "docs" / "experiments" / "nnunet_batch.json"
AFFINE = {"_target_": "kornia.augmentation.RandomAffine", "degrees": 30, "scale": [0.7, 1.4], "p": 0.7}
NOISE = {"_target_": "kornia.augmentation.RandomGaussianNoise", "std": 0.1, "p": 0.5}
AUGMENTED = [AFFINE, NOISE]
STUDENTS = ("seg_student", "cls_student")
BUNDLES = [*((name, {"recipe": "none"}) for name in STUDENTS), ("seg_teacher", {}), ("cls_teacher", {})]
EVERY_BUNDLE = pytest.mark.parametrize(("bundle", "more"), BUNDLES, ids=[name for name, _ in BUNDLES])


def losses(folder: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(folder)]


@EVERY_BUNDLE
def test_a_resumed_run_is_the_uninterrupted_one(bundle, more, class_dataset, tmp_path):
    values = {**more, "batch_augmentation": AUGMENTED, "epochs": 2}
    train(bundle, class_dataset, tmp_path / "whole", **values)
    stopped = prepare(bundle, class_dataset, tmp_path / "parts", **values)
    interrupted(stopped.parser.get_parsed_content("train#trainer"), after=1)
    train(bundle, class_dataset, tmp_path / "parts", **values, resume=True)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert settings_of(tmp_path / "whole")["definitions"]["batch_augmentation"] == AUGMENTED


@pytest.mark.parametrize("bundle", STUDENTS)
def test_it_does_not_depend_on_the_workers(bundle, class_dataset, tmp_path):
    """Flips do, which they make."""
    values = {"recipe": "none", "flip_probability": 0, "epochs": 1}
    train(bundle, class_dataset, tmp_path / "one", **values, batch_augmentation=AUGMENTED)
    train(bundle, class_dataset, tmp_path / "two", **values, batch_augmentation=AUGMENTED, workers=2)
    train(bundle, class_dataset, tmp_path / "plain", **values)
    assert losses(tmp_path / "one") == losses(tmp_path / "two")
    assert losses(tmp_path / "one") != losses(tmp_path / "plain")
    assert settings_of(tmp_path / "plain")["definitions"]["batch_augmentation"] == []


@EVERY_BUNDLE
def test_without_a_chance_it_is_the_training_without(bundle, more, class_dataset, tmp_path):
    never = [{**AFFINE, "p": 0.0}, {**NOISE, "p": 0.0}]
    train(bundle, class_dataset, tmp_path / "never", **more, epochs=1, batch_augmentation=never)
    train(bundle, class_dataset, tmp_path / "without", **more, epochs=1)
    assert losses(tmp_path / "never") == losses(tmp_path / "without")


@pytest.mark.parametrize("bundle", OVERRIDES)
def test_items_are_grey_and_those_of_the_validation_are_not(bundle, class_dataset, tmp_path):
    more = {"recipe": "none"} if bundle in STUDENTS else {}
    parser = prepare(bundle, class_dataset, tmp_path, batch_augmentation=AUGMENTED, **more).parser
    image = parser.get_parsed_content("train#dataset")[0]["image"]
    assert image.shape == (1, 32, 32)
    assert 0 <= image.min() < 0.2 < 0.8 < image.max() <= 1
    assert parser.get_parsed_content("validate#dataset")[0]["image"].shape == (3, 32, 32)


@pytest.mark.parametrize(
    ("bundle", "more"),
    [
        ("seg_student", {"amp": True, "labelled_share": 0.5, "multiclass": True}),
        ("seg_student", {"amp": True, "negative_probability": 0.3}),
        ("cls_student", {"amp": True, "mixup": 0.4, "negative_probability": 0.3}),
    ],
)
def test_the_recipe_of_the_pages_with_a_teacher(bundle, more, class_dataset, tmp_path):
    taught = {"seg_student": SEG_TAUGHT_BY, "cls_student": CLS_TAUGHT_BY}[bundle]
    values = {**OVERRIDES[bundle], "dataset_dir": str(class_dataset), "output_dir": str(tmp_path), "epochs": 1, **more}
    values |= {"recipe": "kd", "teacher_overrides": taught}
    workflow = create_workflow(config_file=[*config(bundle, "train"), str(RECIPE)], workflow_type="train", **values)
    workflow.run()
    workflow.finalize()
    (row,) = rows(tmp_path)
    assert all(torch.isfinite(torch.tensor(value)) for value in row.values())
    given = json.loads(RECIPE.read_text())["batch_augmentation"]
    assert settings_of(tmp_path)["definitions"]["batch_augmentation"] == given
    (teacher,) = tmp_path.glob("teacher-*")
    # Of objects, the names of the classes.
    names = [each["_target_"].rpartition(".")[2] for each in given]
    assert settings_of(teacher)["definitions"]["batch_augmentation"] == names


def test_a_teacher_is_found_again_by_it(disc_dataset, tmp_path, caplog):
    for degrees in (10, 10, 20):
        train("seg_student", disc_dataset, tmp_path, epochs=1, batch_augmentation=[{**AFFINE, "degrees": degrees}])
    assert caplog.text.count("using the teacher trained earlier") == 1
    sequence = (
        "$[__import__('kornia').augmentation.ImageSequential(__import__('kornia').augmentation.RandomRotation(9.0))]"
    )
    train("seg_student", disc_dataset, tmp_path, epochs=1, batch_augmentation=sequence)
    train("seg_student", disc_dataset, tmp_path, epochs=1)
    assert len(list(tmp_path.glob("teacher-*"))) == 4


@pytest.fixture(scope="module")
def run(disc_dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train("seg_student", disc_dataset, folder, recipe="none", epochs=1, batch_augmentation=AUGMENTED)
    return folder


@pytest.mark.parametrize("other", [[], [AFFINE], [{**AFFINE, "degrees": 20}, NOISE]])
def test_a_run_is_resumed_with_the_same_alone(run, other, disc_dataset):
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, run, recipe="none", epochs=2, batch_augmentation=other, resume=True)
    assert "definitions batch_augmentation was [{" in cause(caught.value)


@pytest.mark.parametrize("given", [[], AUGMENTED])
def test_a_run_of_an_earlier_version_had_none(given, run, disc_dataset, tmp_path):
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    settings = settings_of(copied)
    del settings["definitions"]["batch_augmentation"]
    (copied / "settings.json").write_text(json.dumps(settings))
    values = {"recipe": "none", "epochs": 2, "batch_augmentation": given, "resume": True}
    if not given:
        train("seg_student", disc_dataset, copied, **values)
        return
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, copied, **values)
    assert "definitions batch_augmentation was [] and is [{" in cause(caught.value)


@pytest.mark.parametrize("views", [None, 2])
@pytest.mark.parametrize("bundle", STUDENTS)
def test_no_store_is_filled_with_images_that_never_come_again(bundle, views, class_dataset, tmp_path):
    values = {"recipe": "kd", "teacher_store": str(tmp_path / "store"), "views": views}
    with pytest.raises(RuntimeError) as caught:
        train(bundle, class_dataset, tmp_path / "run", **values, batch_augmentation=AUGMENTED)
    assert "`batch_augmentation`" in cause(caught.value)
    assert "no image occurs twice" in cause(caught.value)
    assert not (tmp_path / "run").exists()


def entry(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"kornia.augmentation.{target}", **arguments}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([AFFINE, entry("RandomAfine", degrees=3)], "entry 1, kornia.augmentation.RandomAfine, can't be built"),
        ([entry("RandomAffine", degres=3)], "entry 0, kornia.augmentation.RandomAffine, can't be built"),
        ([AFFINE, {**NOISE, "_disabled_": True}], "entry 1, kornia.augmentation.RandomGaussianNoise, is disabled"),
        ([{"_target_": "RandFlipd", "keys": "image"}], "entry 0, RandFlipd, is no augmentation of kornia"),
        ([entry("Resize", size=[16, 16])], "entry 0, Resize, changes the size of slices"),
        ([3], "entry 0, int, is no augmentation"),
        ("$[torch.nn.Identity()]", "entry 0, Identity, is no augmentation"),
        ("$nothing", "can't be built: name 'nothing' is not defined"),
        ("noise", "must be a list of kornia's augmentations"),
    ],
)
@pytest.mark.parametrize("recipe", ["none", "kd"])
def test_a_mistake_is_said_before_anything_is_trained(given, said, recipe, disc_dataset, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, tmp_path / "run", recipe=recipe, batch_augmentation=given)
    found = cause(caught.value)
    assert found.startswith("ValueError: batch_augmentation")
    assert said in found
    assert not (tmp_path / "run").exists()


def test_without_kornia_it_is_said_how_to_install_it(disc_dataset, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "kornia" else find(name))
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, tmp_path / "run", recipe="none", batch_augmentation=AUGMENTED)
    assert cause(caught.value) == "ImportError: batch_augmentation needs kornia: pip install 'monai_kd[kornia]'."


def test_patches_of_volumes_are_refused(tmp_path):
    data = write_volumes(tmp_path / "data")
    values = {**SMALL_TRAINING, "dataset_dir": str(data), "output_dir": str(tmp_path / "run"), "logging_file": False}
    files = config("seg_student", "train", "volumes")
    with pytest.raises(RuntimeError) as caught:
        create_workflow(config_file=files, workflow_type="train", **values, batch_augmentation=AUGMENTED)
    assert "batch_augmentation is for networks of slices, and this one takes patches" in cause(caught.value)
