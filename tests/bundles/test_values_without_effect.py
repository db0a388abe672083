"""What a command line asks for and a training would not do: an error before it begins, or a warning."""

from __future__ import annotations

import json
import logging
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import BUNDLES, TINY_STUDENT, cause, prepare, train, untrained
from torch import nn

from monai_kd.config import check_settings
from monai_kd.distillation import ends_in_probabilities
from monai_kd.networks import Ensemble

SEGRESNET = {"_target_": "SegResNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 1, "init_filters": 8}
QUICK: dict[str, Any] = {**TINY_STUDENT, "epochs": 1, "teacher_overrides": {}}


@pytest.fixture
def files(tmp_path, disc_dataset) -> dict[str, str]:
    """Checkpoints of a teacher and of a student."""
    teacher = untrained("seg_teacher", tmp_path / "teacher", dataset_dir=str(disc_dataset), fold=0)
    return {"TEACHER": str(teacher), "STUDENT": str(untrained("seg_student", tmp_path / "student"))}


def given(files: dict[str, str], values: dict[str, Any]) -> dict[str, Any]:
    return {
        **QUICK,
        **{name: files.get(value, value) if isinstance(value, str) else value for name, value in values.items()},
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cache_rate": 3.0}, "cache_rate must be a number from 0 to 1, got 3.0"),
        ({"teacher_store_limit": "lots"}, "teacher_store_limit must be a number from 0, got 'lots'"),
        ({"augmentation": "noise"}, "augmentation must be a list of transforms, such as [] or [{'_target_': …}]"),
        ({"init_checkpoint": "STUDENT", "network_def": SEGRESNET}, "network_def is {'_target_': 'SegResNet'"),
        ({"init_checkpoint": "STUDENT", "network_def#norm": "instance"}, "leave out one of the two, or the values"),
    ],
)
def test_it_is_refused(values, said, files, disc_dataset, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, tmp_path / "run", **given(files, {"recipe": "none", **values}))
    assert said in cause(caught.value)
    assert not (tmp_path / "run" / "settings.json").exists()


@pytest.mark.parametrize("value", ["RA", "RAX", "RLS", "RAAS", 5, ["R", "A", "S"]])
def test_an_orientation_has_one_letter_for_each_axis(value, disc_dataset, tmp_path):
    with pytest.raises(ValueError, match="orientation must be three letters, one of each of"):
        check_settings({"orientation": value})
    for fine in ("RAS", "LPS", "SAR", None):
        check_settings({"orientation": fine})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"recipe": "kd", "teacher_checkpoint": "TEACHER", "teacher_overrides": {"epochs": 3}},
            "teacher_overrides: NOT",
        ),
        ({"recipe": "kd", "teacher_checkpoint": "TEACHER", "teacher_taps": {"d1": "unet"}}, "teacher_taps: NOT used"),
        ({"recipe": "cwd", "teacher_checkpoint": "TEACHER", "temperature": 4.0}, "recipe (supervised, channel)"),
        (
            {"recipe": "kd", "teacher_checkpoint": "TEACHER", "projection_side": "student"},
            "projection_side: NOT used, since no term",
        ),
        ({"recipe": "none", "projection_side": "student"}, "projection_side: NOT used, since no term"),
        ({"recipe": "none", "temperature": 4.0}, "--temperature: NOT used, since no loss term of this recipe (superv"),
    ],
)
def test_it_is_said(values, said, files, disc_dataset, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        train("seg_student", disc_dataset, tmp_path / "run", **given(files, values))
    assert said in caplog.text


@pytest.mark.parametrize(
    ("chosen", "said"),
    [({"recipe": "none"}, True), ({"recipe": "kd"}, False), ({"weights": {"ce": 1, "logit": 2}}, True)],
)
def test_alpha_that_no_weight_refers_to(chosen, said, class_dataset, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        prepare("cls_student", class_dataset, tmp_path / "run", **chosen, alpha=0.3).initialize()
    assert ("--alpha: NOT used, since no weight of this recipe" in caplog.text) == said


@pytest.mark.parametrize(
    "values",
    [
        {"recipe": "kd", "teacher_checkpoint": "TEACHER", "temperature": 4.0},
        {
            "recipe": "kd_plus_plus",
            "teacher_checkpoint": "TEACHER",
            "teacher_taps": {f"d{n}": f"unet.upcat_{n}" for n in (1, 2, 3, 4)},
            "projection_side": "student",
        },
        # With the network of its settings.
        {"recipe": "none", "init_checkpoint": "STUDENT", "network_def": "its own"},
    ],
)
def test_nothing_is_said_of_what_has_an_effect(values, files, disc_dataset, tmp_path, caplog):
    if "network_def" in values:
        settings = json.loads(Path(files["STUDENT"]).with_name("settings.json").read_text())
        values = {**values, "network_def": settings["network_def"]}
    with caplog.at_level(logging.WARNING):
        train("seg_student", disc_dataset, tmp_path / "run", **given(files, values))
    assert [text for text in caplog.messages if "NOT used" in text and "features" not in text] == []


@pytest.mark.parametrize("foreign", [False, True])
def test_a_bundle_that_trains_no_such_teacher(foreign, disc_dataset, tmp_path):
    bundle = BUNDLES / "cls_teacher"
    if foreign:
        bundle = tmp_path / "zoo"
        (bundle / "configs").mkdir(parents=True)
        (bundle / "configs" / "train.json").write_text(json.dumps({"network_def": SEGRESNET, "epochs": 3}))
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, tmp_path / "run", **QUICK, recipe="kd", teacher_bundle=str(bundle))
    found = cause(caught.value)
    assert f"teacher_bundle {bundle}: its training has no " in found
    assert "multiclass" in found
    assert "--teacher_checkpoint with teacher_settings" in found


def test_a_checkpoint_to_resume_from_is_no_teacher(files, disc_dataset, tmp_path):
    model = Path(files["TEACHER"])
    shutil.copy(model, model.with_name("last.ckpt"))
    model.with_name("last.ckpt").write_bytes(model.read_bytes() + b"\0")
    values = {**QUICK, "recipe": "kd", "teacher_checkpoint": str(model.with_name("last.ckpt"))}
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, tmp_path / "run", **values)
    assert cause(caught.value).endswith("last.ckpt is there to resume a training: give the model.pt beside it.")


class Both(nn.Module):
    """A convolution and what follows it."""

    def __init__(self, after: Any) -> None:
        super().__init__()
        self.layer, self.after = nn.Conv2d(3, 2, 1), after

    def forward(self, image: torch.Tensor) -> Any:
        return self.after(self.layer(image))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (nn.Sigmoid(), "sigmoid"),
        (nn.Softmax(1), "softmax"),
        (torch.sigmoid, "sigmoid"),
        (lambda z: z.softmax(1), "softmax"),
        (lambda z: [z.softmax(1), z], "softmax"),
        # Shifted logits, and logits.
        (lambda z: z.log_softmax(1), None),
        (nn.Identity(), None),
        (lambda z: z.sigmoid() * z, None),
        (lambda z: [z, z.softmax(1)], None),
        (lambda z: z.detach(), None),
        (lambda z: z.sigmoid_(), "sigmoid"),
    ],
)
def test_what_ends_in_probabilities(after, expected):
    network, image = Both(after), torch.rand(2, 3, 4, 4)
    state = torch.random.get_rng_state()
    assert ends_in_probabilities(network.requires_grad_(False), image) == expected
    assert torch.equal(torch.random.get_rng_state(), state)
    assert network.training
    assert network.layer.weight.grad is None
    assert not image.requires_grad


class Shifted(Both):
    """Changes its image in place."""

    def forward(self, image: torch.Tensor) -> Any:
        image -= 0.5
        return super().forward(image)


def test_an_image_may_be_changed_in_place():
    image = torch.rand(1, 3, 4, 4)
    before = image.clone()
    assert ends_in_probabilities(Shifted(torch.sigmoid), image) == "sigmoid"
    assert torch.equal(image, before)


def test_no_activations_are_kept():
    kept = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(context, value):
            context.save_for_backward(value)
            kept.append(weakref.ref(value))
            return value * 2

        @staticmethod
        def backward(context, gradient):
            return gradient

    alive = []

    def after(value):
        value = Watched.apply(value * 3)
        alive.append(kept[0]() is not None)
        return value.sigmoid()

    assert ends_in_probabilities(Both(after), torch.rand(1, 3, 4, 4)) == "sigmoid"
    assert alive == [False]


def test_an_ensemble_returns_logits():
    networks = [nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1)]
    for activation in ("sigmoid", "softmax"):
        assert ends_in_probabilities(Ensemble(networks, activation), torch.rand(1, 3, 4, 4)) is None


class Probable(nn.Conv2d):
    """Returns probabilities."""

    def __init__(self, activation: str) -> None:
        super().__init__(3, 1, 1)
        self.activation = {"sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(1)}[activation]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.activation(super().forward(image))


def test_a_student_that_ends_in_probabilities_is_refused(disc_dataset, tmp_path):
    definition = {"_target_": f"{__name__}.Probable", "activation": "sigmoid"}
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, tmp_path, **{**QUICK, "recipe": "none", "network_def": definition})
    assert "the network, Probable, ends in a sigmoid, and the loss terms take logits" in cause(caught.value)


def test_a_teacher_that_ends_in_probabilities_is_refused(disc_dataset, tmp_path):
    path, definition = tmp_path / "model.pt", {"_target_": f"{__name__}.Probable", "activation": "softmax"}
    torch.save(Probable("softmax").state_dict(), path)
    described = {"network_def": definition, "image_size": 32, "in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}
    values = {**QUICK, "recipe": "kd", "teacher_checkpoint": str(path), "teacher_settings": described}
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, tmp_path / "run", **values)
    assert "the teacher, Probable, ends in a softmax" in cause(caught.value)


OWN_CLASSIFIER = {"_target_": "monai.networks.nets.DenseNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 3}
SMALL_CLASSIFIER = {**OWN_CLASSIFIER, "init_features": 4, "growth_rate": 2, "block_config": [1, 1, 1, 1]}


@pytest.mark.parametrize(
    ("bundle", "values", "said"),
    [
        (
            "cls_student",
            {"network_name": "resnet18", "pretrained": True},
            "--network_name, --pretrained: NOT used",
        ),
        (
            "cls_teacher",
            {"backbones": ["resnet18"], "freeze": True},
            "--backbones, --freeze: NOT used",
        ),
    ],
)
def test_values_of_a_network_that_is_replaced(bundle, values, said, class_dataset, tmp_path, caplog):
    quick = {"network_def": SMALL_CLASSIFIER, "epochs": 1, "taps": {}, **values}
    recipe = {"recipe": "none"} if bundle == "cls_student" else {}
    train(bundle, class_dataset, tmp_path / "run", **quick, **recipe)
    assert said in caplog.text
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert not {"pretrained", "freeze"} & settings.keys()
    assert settings["network_def"]["_target_"] == OWN_CLASSIFIER["_target_"]


@pytest.mark.parametrize(
    ("bundle", "values", "said"),
    [
        ("cls_teacher", {"network_def": SMALL_CLASSIFIER}, "NOT be used, since network_def does not refer to it"),
        ("seg_teacher", {"network_def": SEGRESNET}, "the weights weights.pth would NOT be used"),
    ],
)
def test_weights_that_no_network_takes_are_refused(bundle, values, said, class_dataset, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        prepare(bundle, class_dataset, tmp_path / "run", **values, pretrained="weights.pth").initialize()
    assert said in cause(caught.value)


def test_a_network_of_ones_own_may_take_weights(class_dataset, tmp_path, caplog):
    definition = {"_target_": "monai_kd.networks.create_backbone", "name": "test_efficientnet_ln", "num_classes": 3}
    values = {"network_def": {**definition, "pretrained": "@pretrained"}, "recipe": "none", "pretrained": False}
    workflow = prepare("cls_student", class_dataset, tmp_path / "run", **values)
    workflow.initialize()
    assert "--pretrained" not in caplog.text
    assert workflow.parser.get_parsed_content("settings")["pretrained"] is False
