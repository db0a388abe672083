"""The small configs that put another student into seg_student, and another teacher into seg_teacher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from tiny import BUNDLES
from torch import nn

from monai_kd.config import build_network, definition_of
from monai_kd.distillation import Distiller, inspect_taps
from monai_kd.losses import DistillationLoss, FeatureLoss, LogitKL, Projections

STUDENTS = sorted((BUNDLES / "seg_student" / "configs" / "students").glob("*.json"))
TEACHERS = sorted((BUNDLES / "seg_teacher" / "configs" / "teachers").glob("*.json"))
# Strides of d4 … d1, where they are not 8, 4, 2, 1.
STRIDES = {"res_unet": [8, 4, 2, 2]}
PLANAR = "timm_"
OF_SOME = {"pretrained", "mean", "std", "param_groups", "optimizer#params"}
OF_SOME |= {"class_weight", "terms#class", "weights"}


def values(axes: int) -> dict:
    """What train.json defines, in brief. Normalisation of instances needs more than one pixel at stride 16."""
    sizes = {"spatial_dims": axes, "image_size": 64 if axes == 2 else 32}
    return {**sizes, "in_channels": 3, "out_channels": 2, "class_names": ["a", "b", "c"]}


OF_LITE0 = ["timm_lite0_classes_pretrained", "timm_lite0_pretrained", "timm_lite0_small_pretrained"]
PRETRAINED = ["timm_hybrid", *OF_LITE0]


def built(file: Path, axes: int) -> tuple[nn.Module, dict[str, str]]:
    torch.manual_seed(0)
    parser = ConfigParser({**values(axes), **json.loads(file.read_text())})
    definition = definition_of(parser["network_def"], parser.get_parsed_content, "network_def")
    # As from the settings.json of its run: no network of these needs more trust.
    return build_network(definition, trusted=False), parser.get_parsed_content("taps")


def test_they_are_there():
    students = ["attention_unet", "dynunet", "res_unet", "segresnet", "timm_efficientnet_lite0"]
    assert [file.stem for file in STUDENTS] == [*students, *PRETRAINED[1:], "timm_mobilenetv2", "unetpp"]
    assert [file.stem for file in TEACHERS] == ["swin_unetr", "timm_hybrid", "unetr"]


@pytest.mark.parametrize("file", [*STUDENTS, *TEACHERS], ids=lambda file: file.stem)
def test_at_most_fifteen_lines_of_a_network_and_its_taps(file):
    text = file.read_text()
    assert len(text.splitlines()) <= 15
    content = json.loads(text)
    # One with pretrained weights says which input they expect. The loss is that of train.json, with its `batch_dice`.
    assert content.keys() - OF_SOME == {"network_def", "taps"}
    assert ("pretrained" in content) == ("mean" in content) == (file.stem in PRETRAINED)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("file", STUDENTS, ids=lambda file: file.stem)
def test_students_are_small_and_tapped_at_their_levels(file, axes):
    if axes == 3 and file.stem.startswith(PLANAR):
        pytest.skip("timm has encoders for two axes")
    network, taps = built(file, axes)
    assert sum(parameter.numel() for parameter in network.parameters()) <= 8_000_000
    size = values(axes)["image_size"]
    rows = {row.path: row for row in inspect_taps(network, [3, *[size] * axes])}
    assert list(taps) == ["d4", "d3", "d2", "d1"]
    assert [rows[path].problem for path in taps.values()] == [""] * 4
    assert [rows[path].stride for path in taps.values()] == [[s] * axes for s in STRIDES.get(file.stem, [8, 4, 2, 1])]


@pytest.mark.parametrize("file", TEACHERS, ids=lambda file: file.stem)
def test_transformers_teach(file):
    pytest.importorskip("einops")
    teacher, teacher_taps = built(file, 2)
    student, student_taps = built(STUDENTS[0].with_name("timm_mobilenetv2.json"), 2)
    shapes = [{row.path: row.shape for row in inspect_taps(network, [3, 64, 64])} for network in (student, teacher)]
    channels = {name: [shapes[0][student_taps[name]][1], shapes[1][teacher_taps[name]][1]] for name in student_taps}
    loss = DistillationLoss(
        {"kl": LogitKL(activation="softmax"), "feature": FeatureLoss()},
        {"kl": 1.0, "feature": 1.0},
        Projections(channels, "student"),
    )
    outputs = Distiller(student, teacher, student_taps, teacher_taps).train()(torch.randn(2, 3, 64, 64))
    assert [outputs["teacher_features"][name].shape[-1] for name in ("d4", "d3", "d2", "d1")] == [8, 16, 32, 64]
    loss(outputs).total.backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize(
    "file",
    sorted(
        path
        for kind in ("cls_student/configs/students", "cls_teacher/configs/teachers")
        for path in (BUNDLES / kind).glob("*.json")
    ),
    ids=lambda file: file.stem,
)
def test_classifiers_have_the_tap_of_msgff(file):
    assert len(file.read_text().splitlines()) <= 15
    parser = ConfigParser()
    parser.read_config([str(file.parents[1] / "train.json"), str(file)])
    parser.update({"num_classes": 3, "image_size": 224, "learning_rate": 0.1})
    definition = definition_of(parser["network_def"], parser.get_parsed_content, "network_def")
    network = build_network(definition, trusted=False)
    taps = parser.get_parsed_content("taps")
    assert list(taps) == ["msgff"]
    network.get_submodule(taps["msgff"])
    with torch.no_grad():
        rows = {row.path: row for row in inspect_taps(network, [3, 224, 224])}
    assert rows[taps["msgff"]].problem == ""
    assert len(rows[taps["msgff"]].shape) == 4
