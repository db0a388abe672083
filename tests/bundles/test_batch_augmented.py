"""Trainings whose batches are augmented on the device."""

from __future__ import annotations

import json

import pytest
import torch
from tiny import CLASSIFICATION, SEGMENTATION, cause, interrupted, prepare, rows, train, untrained

from monai_kd.transforms import NetworkInputd

pytest.importorskip("kornia")
AFFINE = {"_target_": "kornia.augmentation.RandomAffine", "degrees": 30.0, "p": 0.7}
NOISE = {"_target_": "kornia.augmentation.RandomGaussianNoise", "std": 0.1, "p": 0.7}
BOTH = [AFFINE, NOISE]


@pytest.fixture(params=[*SEGMENTATION, *CLASSIFICATION])
def bundle(request) -> str:
    return request.param


@pytest.fixture
def dataset(bundle, request):
    return request.getfixturevalue("disc_dataset" if bundle in SEGMENTATION else "class_dataset")


def alone(bundle: str) -> dict:
    return {"recipe": "none"} if bundle.endswith("student") else {}


def shown(trainer) -> list[torch.Tensor]:
    """The batches that the student learns from."""
    found: list[torch.Tensor] = []
    network = getattr(trainer.network, "student", trainer.network)
    network.register_forward_pre_hook(
        lambda module, inputs: found.append(inputs[0].clone()) if module.training else None
    )
    return found


def test_batches_of_probability_0_are_those_without(bundle, dataset, tmp_path):
    never = [{**each, "p": 0.0} for each in BOTH]
    seen = []
    for number, given in enumerate(({}, {"batch_augmentation": never})):
        trainer = prepare(bundle, dataset, tmp_path / str(number), **alone(bundle), **given).trainer
        batches = shown(trainer)
        trainer.run()
        seen.append(batches)
    assert len(seen[0]) == len(seen[1]) > 2
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_run_gets_the_same_batches(bundle, dataset, tmp_path, workers):
    given = {**alone(bundle), "batch_augmentation": BOTH, "epochs": 3, "workers": workers}
    whole = prepare(bundle, dataset, tmp_path / "whole", **given).trainer
    batches = shown(whole)
    whole.run()
    interrupted(prepare(bundle, dataset, tmp_path / "parts", **given).trainer, after=1)
    resumed = prepare(bundle, dataset, tmp_path / "parts", **given, resume=True).trainer
    rest = shown(resumed)
    resumed.run()
    assert len(batches) == 3 * len(rest) / 2
    assert all(torch.equal(one, other) for one, other in zip(batches[len(rest) // 2 :], rest, strict=True))
    one, other = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    # Each epoch draws anew.
    each = len(rest) // 2
    assert not any(torch.equal(one, other) for one, other in zip(batches[:each], batches[each : 2 * each], strict=True))


def test_items_have_one_channel_and_validation_is_as_before(bundle, dataset, tmp_path):
    workflow = prepare(bundle, dataset, tmp_path, **alone(bundle), batch_augmentation=BOTH)
    plain = prepare(bundle, dataset, tmp_path, **alone(bundle), flip_probability=0)
    item = workflow.parser.get_parsed_content("train#dataset")[0]["image"]
    assert item.shape[0] == 1
    assert 0 <= item.min() < item.max() <= 1
    step = [
        each
        for each in plain.parser.get_parsed_content("train#dataset").transform.flatten().transforms
        if isinstance(each, NetworkInputd)
    ]
    assert len(step) == 1
    one, other = (each.parser.get_parsed_content("validate#dataset")[0]["image"] for each in (workflow, plain))
    assert torch.equal(one, other)
    assert one.shape[0] == 3


def test_it_is_recorded_and_another_one_is_not_resumed(bundle, dataset, tmp_path):
    given = {**alone(bundle), "epochs": 1}
    train(bundle, dataset, tmp_path, **given, batch_augmentation=BOTH)
    recorded = json.loads((tmp_path / "settings.json").read_text())["definitions"]["batch_augmentation"]
    assert recorded == BOTH
    with pytest.raises((RuntimeError, ValueError)) as caught:
        train(bundle, dataset, tmp_path, **{**given, "epochs": 2}, resume=True, batch_augmentation=[AFFINE])
    assert "batch_augmentation was" in cause(caught.value)


@pytest.mark.parametrize("student", ["seg_student", "cls_student"])
@pytest.mark.parametrize("views", [None, 2])
def test_no_store_of_images_that_do_not_come_twice(student, disc_dataset, class_dataset, tmp_path, views):
    data = disc_dataset if student == "seg_student" else class_dataset
    teacher = untrained(student.replace("student", "teacher"), tmp_path)
    given = {"teacher_checkpoint": str(teacher), "teacher_store": str(tmp_path / "store"), "recipe": "kd"}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        train(student, data, tmp_path / "run", **given, views=views, batch_augmentation=BOTH)
    assert "with `augmentation`, `batch_augmentation`, `mixup`" in cause(caught.value)


@pytest.mark.parametrize("student", ["seg_student", "cls_student"])
def test_the_teacher_that_is_trained_first_gets_it(student, disc_dataset, class_dataset, tmp_path):
    data = disc_dataset if student == "seg_student" else class_dataset
    train(student, data, tmp_path, recipe="kd", epochs=1, batch_augmentation=BOTH)
    (folder,) = tmp_path.glob("teacher-*")
    definitions = json.loads((folder / "settings.json").read_text())["definitions"]
    assert definitions["batch_augmentation"] == ["RandomAffine", "RandomGaussianNoise"]
    assert len(rows(folder)) == 1


def test_in_mixed_precision_with_hidden_labels_and_a_live_teacher(disc_dataset, tmp_path):
    teacher = untrained("seg_teacher", tmp_path)
    given = {"teacher_checkpoint": str(teacher), "recipe": "kd", "amp": True, "labelled_share": 0.5}
    train("seg_student", disc_dataset, tmp_path / "run", **given, batch_augmentation=BOTH, negative_probability=0.3)
    assert all(float(row["loss"]) > 0 for row in rows(tmp_path / "run"))


def test_kornia_that_is_missing_is_named_before_anything_is_read(bundle, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("monai_kd.bundle.overrides.KORNIA", "no_such_module")
    with pytest.raises((ImportError, RuntimeError)) as caught:
        prepare(bundle, dataset, tmp_path, **alone(bundle), batch_augmentation=BOTH)
    assert "batch_augmentation needs no_such_module: pip install" in cause(caught.value)


@pytest.mark.parametrize(("value", "message"), [("flip", "must be a list of transforms"), (3, "must be a list of")])
def test_other_values_are_refused(bundle, dataset, tmp_path, value, message):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        prepare(bundle, dataset, tmp_path, **alone(bundle), batch_augmentation=value)
    assert f"batch_augmentation {message}" in cause(caught.value)
