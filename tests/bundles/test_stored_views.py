"""Augmented slices whose views repeat, so that the outputs of a teacher can be stored."""

from __future__ import annotations

import json

import pytest
from tiny import CLS_TAUGHT_BY, SEG_TAUGHT_BY, cause, prepare, rows, train

NOISE = {"_target_": "RandGaussianNoised", "keys": "image", "prob": 1.0, "std": 0.5}
# Torchvision's random numbers are not MONAI's.
ERASING = {"_target_": "RandTorchVisiond", "keys": "image", "name": "RandomErasing"}
AUGMENTED = {
    "seg_student": {
        **{"recipe": "dist", "negative_probability": 0.3, "teacher_overrides": {**SEG_TAUGHT_BY}},
        "augmentation": [NOISE, {"_target_": "RandRotated", "keys": ["image", "label"], "range_x": 0.5, "prob": 1.0}],
    },
    "cls_student": {
        **{"recipe": "kd", "augmentation": [NOISE]},
        "teacher_overrides": {**CLS_TAUGHT_BY, "augmentation": []},
    },
}


@pytest.mark.parametrize("bundle", list(AUGMENTED))
def test_a_stored_teacher_sees_each_view_once(bundle, disc_dataset, class_dataset, tmp_path):
    dataset = disc_dataset if bundle == "seg_student" else class_dataset
    given = {**AUGMENTED[bundle], "views": 2, "epochs": 5}
    live = train(bundle, dataset, tmp_path / "live", **given)
    checkpoint = str(next((tmp_path / "live").glob("teacher-*/model.pt")))
    slices = len(live.parser.get_parsed_content("train#dataset"))
    given["teacher_checkpoint"] = checkpoint
    trainer = prepare(bundle, dataset, tmp_path / "stored", **given, teacher_store=str(tmp_path / "store")).trainer
    seen: list[int] = []
    trainer.network.teachers["teacher"].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    trainer.run()
    assert sum(seen) == 2 * slices
    # The same views without a store. A teacher asked about part of a batch, and half precision, round otherwise.
    for expected, found in zip(rows(tmp_path / "live"), rows(tmp_path / "stored"), strict=True):
        for name in [name for name in expected if name.startswith("loss")]:
            assert found[name] == pytest.approx(expected[name], rel=2e-3, abs=1e-4), name
    assert json.loads((tmp_path / "stored" / "settings.json").read_text())["views"] == 2


def test_the_number_of_outputs_is_said(disc_dataset, tmp_path, caplog):
    given = {**AUGMENTED["seg_student"], "views": 3, "teacher_store": str(tmp_path / "store")}
    workflow = prepare("seg_student", disc_dataset, tmp_path / "run", **given)
    with caplog.at_level("INFO"):
        workflow.parser.get_parsed_content("distillation").distiller  # noqa: B018
    assert f"GB for {3 * len(workflow.parser.get_parsed_content('train#dataset#data'))} images" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"views": 0}, "views must be None or a whole number from 1, got 0"),
        ({"views": 2.5}, "views must be None or a whole number from 1, got 2.5"),
        ({"views": 2, "mixup": 0.4, "teacher_store": "store"}, "and mixup, no image does"),
        ({"views": 2, "augmentation": [ERASING]}, "views: RandTorchVisiond may draw random numbers"),
    ],
)
def test_what_can_not_repeat_is_refused(overrides, message, class_dataset, tmp_path):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        train("cls_student", class_dataset, tmp_path, **overrides)
    assert message in cause(caught.value)
    assert not list(tmp_path.iterdir())
