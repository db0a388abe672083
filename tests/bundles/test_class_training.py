"""Training of the classification bundles, and the losses as their configs build them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from monai.bundle import ConfigParser, create_workflow
from scipy.special import log_softmax, softmax
from tiny import (
    CLASSIFICATION,
    CLS_TAUGHT_BY,
    NETWORKS,
    OVERRIDES,
    TINY_BACKBONES,
    cause,
    config,
    prepare,
    rows,
    settings_of,
    train,
)
from tiny import untrained as untrained_checkpoint

from monai_kd.io.checkpoints import load_weights
from monai_kd.io.checksum import file_sha256
from monai_kd.io.trained import read_settings
from monai_kd.networks import LateFusionClassifier


@pytest.fixture(scope="module")
def teacher(class_dataset, tmp_path_factory) -> str:
    output_dir = tmp_path_factory.mktemp("class_teacher")
    workflow = train("cls_teacher", class_dataset, output_dir, mixup=0.2, class_weights="balanced")
    assert workflow.check_properties() == []
    return str(output_dir / "model.pt")


def test_teacher_leaves_a_bare_network(teacher):
    load_weights(LateFusionClassifier(TINY_BACKBONES, num_classes=3), teacher)
    folder = Path(teacher).parent
    for name in ("log.csv", "curves.png", "confusion.png", "last.ckpt", "settings.json"):
        assert (folder / name).stat().st_size > 0
    found = rows(folder)
    assert len(found) == 2
    assert all({"loss", "val/accuracy"} <= row.keys() for row in found)


@pytest.mark.parametrize(
    ("recipe", "terms"), [("none", {"ce"}), ("kd", {"ce", "logit"}), ("msgff", {"ce", "logit", "msgff"})]
)
def test_recipes(class_dataset, teacher, tmp_path, recipe, terms):
    before = torch.load(teacher, weights_only=True)
    workflow = train("cls_student", class_dataset, tmp_path, recipe=recipe, teacher_checkpoint=teacher, epochs=1)
    assert workflow.check_properties() == []
    (row,) = rows(tmp_path)
    assert {name.removeprefix("loss/") for name in row if name.startswith("loss/")} == terms
    weighted = [value for name, value in row.items() if name.startswith("weighted/")]
    assert sum(weighted) == pytest.approx(row["loss"], rel=1e-4)
    # no projection, and nothing of the teacher
    load_weights(timm.create_model("test_efficientnet_ln", num_classes=3), tmp_path / "model.pt")
    if recipe != "none":
        (used,) = workflow.parser.get_parsed_content("distiller").teachers.values()
        assert not used.training
        assert all(torch.equal(value, before[name]) for name, value in used.state_dict().items())
        assert not any(parameter.requires_grad for parameter in used.parameters())
    told = read_settings(tmp_path / "settings.json")["teacher"]
    assert told is None if recipe == "none" else (told["checkpoint"], told["epochs"]) == (teacher, 2)


def test_teacher_is_trained_first_and_once(class_dataset, tmp_path, caplog):
    train("cls_student", class_dataset, tmp_path, epochs=1)
    assert "training the teacher FIRST" in caplog.text
    (folder,) = tmp_path.glob("teacher-*")
    trained = (folder / "model.pt").stat().st_mtime_ns
    told = read_settings(tmp_path / "settings.json")["teacher"]
    assert (told["checkpoint"], told["epochs"]) == (str(folder / "model.pt"), 1)
    assert told["network_def"]["backbones"] == TINY_BACKBONES
    train("cls_student", class_dataset, tmp_path, epochs=1)
    assert "using the teacher trained earlier" in caplog.text
    assert (folder / "model.pt").stat().st_mtime_ns == trained


def test_frozen_teacher_trains_its_classifiers_alone(class_dataset, tmp_path):
    workflow = prepare("cls_teacher", class_dataset, tmp_path, freeze=True, epochs=1)
    network = workflow.parser.get_parsed_content("network")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    workflow.run()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {
        f"{layer}.{what}" for layer in ("backbones.0.fc", "backbones.1.head", "fusion") for what in ("weight", "bias")
    }


def test_files_that_training_began_with_are_not_needed_afterwards(class_dataset, tmp_path, caplog):
    weights = tmp_path / "resnet.pth"
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), weights)
    backbones = [{**TINY_BACKBONES[0], "pretrained": str(weights), "freeze": True}]
    train("cls_teacher", class_dataset, tmp_path / "run", backbones=backbones, epochs=1)
    weights.unlink()
    checkpoint = str(tmp_path / "run" / "model.pt")
    quiet = {"checkpoint": checkpoint, "device": "cpu", "logging_file": False, "dataset_dir": str(class_dataset)}
    for name in ("evaluate", "inference"):
        workflow = create_workflow(config_file=config("cls_teacher", name), workflow_type="infer", **quiet)
        load_weights(workflow.parser.get_parsed_content("network"), checkpoint)
    values = {
        **{**OVERRIDES["cls_student"], "teacher_overrides": {}},
        "dataset_dir": str(class_dataset),
        "teacher_checkpoint": checkpoint,
        "output_dir": str(tmp_path / "student"),
    }
    workflow = create_workflow(config_file=config("cls_student", "train"), workflow_type="train", **values)
    (used,) = workflow.parser.get_parsed_content("distiller").teachers.values()
    assert len(used.backbones) == 1
    assert "RANDOM" not in caplog.text


@pytest.mark.parametrize("bundle", CLASSIFICATION)
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mixupp": 0.4}, "unknown override: --mixupp (did you mean --mixup"),
        ({"mixup": -1}, "mixup must be a number from 0, got -1"),
        ({"class_weights": "inverse"}, "class_weights must be None, 'balanced' or 3 positive numbers"),
        ({"fold": 9}, "9 is none of them"),
        ({"image_size": 16}, "image_size must be a whole number from 32"),
        ({"weight_decay": -1}, "weight_decay must be a number from 0, got -1"),
        ({"flip_probability": 2}, "flip_probability must be a number from 0 to 1, got 2"),
    ],
)
def test_bad_override_is_one_clear_error(bundle, class_dataset, tmp_path, overrides, message):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        train(bundle, class_dataset, tmp_path, **{"recipe": "none"} if bundle == "cls_student" else {}, **overrides)
    assert message in cause(caught.value)
    assert not (tmp_path / "model.pt").exists()


def untrained(**overrides) -> dict:
    """A teacher that would be trained for ever."""
    return {"teacher_checkpoint": None, "teacher_overrides": {**CLS_TAUGHT_BY, "epochs": 10**6, **overrides}}


TAPS = {**untrained(), "recipe": "msgff"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"alpha": 2}, "alpha must be a number from 0 to 1, got 2"),
        ({"recipe": "kd_plus_plus"}, "recipe must be one of kd, msgff, none"),
        ({"weights": {"cee": 1}}, "there is no loss term of the name cee (did you mean ce?)"),
        ({"weights": {"ce": "much"}}, "loss weights must be numbers, got {'ce': 'much'}"),
        (
            TAPS | {"teacher_taps": {"msgff": "backbones.0.layer9"}},
            "no module 'backbones.0.layer9' (did you mean b",
        ),
        (TAPS | {"teacher_taps": {"msg": "backbones.0.layer2"}}, "has no module to compare with msgff of the student"),
        (TAPS | {"taps": {"msgff": "blocks.9"}}, "no module 'blocks.9'"),
        (untrained(freeze="no"), "teacher_overrides: freeze must be True or False, got 'no'"),
        (untrained(learning_rate=0), "teacher_overrides: learning_rate must be a positive number, got 0"),
        (untrained(epoch=3), "unknown override: --epoch (did you mean --epochs"),
        ({"teacher_checkpoint": "nowhere.pt"}, "there is no checkpoint nowhere.pt"),
    ],
)
def test_bad_override_of_the_student(class_dataset, teacher, tmp_path, overrides, message):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        train("cls_student", class_dataset, tmp_path, **{"teacher_checkpoint": teacher, **overrides})
    assert message in cause(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_teacher_with_another_network_than_its_settings_say(class_dataset, teacher, tmp_path):
    other = shutil.copytree(Path(teacher).parent, tmp_path / "other")
    told = json.loads((other / "settings.json").read_text())
    told["network_def"]["backbones"] = TINY_BACKBONES[:1]
    (other / "settings.json").write_text(json.dumps(told))
    with pytest.raises((RuntimeError, ValueError)) as caught:
        train("cls_student", class_dataset, tmp_path / "run", teacher_checkpoint=str(other / "model.pt"))
    assert "does not fit LateFusionClassifier" in cause(caught.value)


@pytest.mark.parametrize("bundle", CLASSIFICATION)
def test_a_class_without_training_slices_is_an_error(bundle, disc_dataset, tmp_path):
    # in these slices each fold has one class
    with pytest.raises(RuntimeError) as caught:
        train(bundle, disc_dataset, tmp_path, **{"recipe": "none"} if bundle == "cls_student" else {})
    assert "no training slice shows meningioma" in cause(caught.value)


def student(dataset: Path, teacher: str, tmp_path: Path, **overrides) -> ConfigParser:
    """The parts of a run, as the config builds them when they are asked for."""
    return prepare("cls_student", dataset, tmp_path, teacher_checkpoint=teacher, **overrides).parser


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("balanced", [False, True])
def test_kd_is_its_equation(class_dataset, teacher, tmp_path, smoothing, balanced):
    weights = [0.5, 1.0, 3.0]
    more = {"label_smoothing": smoothing, "class_weights": weights if balanced else None}
    loss = student(class_dataset, teacher, tmp_path, recipe="kd", **more).get_parsed_content("loss")
    assert loss.weights == {"ce": 0.1, "logit": 0.9}
    assert loss.terms["logit"].temperature == 4.0
    generator = np.random.default_rng(0)
    s, t, y = 5 * generator.normal(size=(7, 3)), 5 * generator.normal(size=(7, 3)), generator.integers(0, 3, 7)
    w = np.array(weights) if balanced else np.ones(3)
    each = -log_softmax(s, axis=1)
    own = each[np.arange(7), y] * w[y]
    ce = (1 - smoothing) * own.sum() / w[y].sum() + smoothing / 3 * (each * w).sum() / w[y].sum()
    p = softmax(t / 4, axis=1)
    kl = (p * (np.log(p) - log_softmax(s / 4, axis=1))).sum() / 7
    z = {"student": torch.tensor(s).float(), "teacher": torch.tensor(t).float()}
    report = loss(z, torch.tensor(y))
    found = float(report.total)
    assert found == pytest.approx(0.1 * ce + 0.9 * 16 * kl, rel=1e-4)
    assert float(report.terms["logit"]) == pytest.approx(16 * kl, rel=1e-4)
    same = loss({**z, "student": z["teacher"]}, torch.tensor(y))
    assert float(same.terms["logit"]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_msgff_reaches_the_student_and_the_projection_alone(class_dataset, teacher, tmp_path, side):
    parser = student(class_dataset, teacher, tmp_path, recipe="msgff", projection_side=side)
    loss, distiller = parser.get_parsed_content("loss"), parser.get_parsed_content("distiller")
    outputs = distiller(torch.randn(2, 3, 64, 64))
    s, t = outputs["student_features"]["msgff"], outputs["teacher_features"]["msgff"]
    assert (s.shape, t.shape) == ((2, 32, 8, 8), (2, 48, 4, 4))
    report = loss(outputs, torch.tensor([0, 1]))
    # independently: the projection is a matrix over channels; of 8 × 8 and 4 × 4, means of 2 × 2 of the former
    layer = loss.projections["teacher"].layers["msgff"]
    matrix, bias = layer.weight.detach()[:, :, 0, 0].numpy(), layer.bias.detach().numpy()[None, :, None, None]
    fs, ft = s.detach().numpy(), t.numpy()
    projected = np.einsum("oc,bchw->bohw", matrix, ft if side == "teacher" else fs) + bias
    fs, ft = (fs, projected) if side == "teacher" else (projected, ft)
    pooled = fs.reshape(*fs.shape[:2], 4, 2, 4, 2).mean(axis=(3, 5))
    assert float(report.terms["msgff"]) == pytest.approx(float(((pooled - ft) ** 2).mean()), rel=1e-4)
    features = loss.projections["teacher"](outputs["student_features"], outputs["teacher_features"])
    loss.terms["msgff"](*features).backward()
    reached = {name for name, p in distiller.student.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached
    assert all(name.startswith(("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2")) for name in reached)
    assert {"conv_stem.weight"} <= reached
    assert any(name.startswith("blocks.2.") for name in reached)
    assert layer.weight.grad.abs().sum() > 0
    (network,) = distiller.teachers.values()
    assert all(p.grad is None for p in network.parameters())
    # the optimiser moves the projection too
    held = {id(p) for group in parser.get_parsed_content("optimizer").param_groups for p in group["params"]}
    assert {id(p) for p in loss.parameters()} <= held
    assert {id(p) for p in distiller.student.parameters()} <= held
    assert not held & {id(p) for p in network.parameters()}


def test_full_taps_have_the_shapes_of_the_report():
    """Third MBConv stage of EfficientNet-B0, 40 × 28², and the last convolution of VGG19, 512 × 14²."""
    own = json.loads(Path(config("cls_student", "train")[0]).read_text())
    theirs = json.loads(Path(config("cls_teacher", "train")[0]).read_text())
    (first, *_), seen = theirs["presets"]["full"]["backbones"], {}
    # on the meta device: shapes without the arithmetic
    with torch.device("meta"):
        net = timm.create_model(own["network_name"], num_classes=3)
        vgg = LateFusionClassifier([first], num_classes=3)
        net.get_submodule(own["taps"]["msgff"]).register_forward_hook(
            lambda _m, _i, out: seen.update(student=tuple(out.shape))
        )
        tap = vgg.last_convolution()
        assert tap == "backbones.0.features.35"
        vgg.get_submodule(tap).register_forward_hook(lambda _m, _i, out: seen.update(teacher=tuple(out.shape)))
        net(torch.zeros(1, 3, 224, 224))
        vgg(torch.zeros(1, 3, 224, 224))
    assert seen == {"student": (1, 40, 28, 28), "teacher": (1, 512, 14, 14)}


def test_a_last_batch_of_one_slice_is_left_out(class_dataset, tmp_path, caplog):
    """12 slices train; BatchNorm over 1 × 1 pixels of one slice is an error of torch."""
    given = {"network_name": "test_efficientnet", "recipe": "none", "epochs": 1}
    train("cls_student", class_dataset, tmp_path, **{**given, "batch_size": 11})
    assert "the last batch would hold one of 12 slices" in caplog.text
    assert (tmp_path / "model.pt").is_file()


def test_it_goes_on_from_weights(class_dataset, tmp_path, caplog):
    """With their network and input, whatever the config says."""
    model = untrained_checkpoint("cls_student", tmp_path / "start", mean=[0.4] * 3, std=[0.3] * 3)
    given = {name: value for name, value in OVERRIDES["cls_student"].items() if name != "image_size"}
    values = {**given, "dataset_dir": str(class_dataset), "output_dir": str(tmp_path / "run")}
    values |= {"recipe": "none", "epochs": 1, "network_name": "resnet18"}
    files = config("cls_student", "train")
    workflow = create_workflow(config_file=files, workflow_type="train", init_checkpoint=str(model), **values)
    state = workflow.parser.get_parsed_content("network").state_dict()
    workflow.run()
    settings = settings_of(tmp_path / "run")
    assert settings["network_def"] == NETWORKS["cls_student"]
    assert (settings["image_size"], settings["mean"], settings["std"]) == (32, [0.4] * 3, [0.3] * 3)
    assert settings["started_from"]["weights_sha256"] == file_sha256(model)
    assert state.keys() == torch.load(model, weights_only=True).keys()
    assert rows(tmp_path / "run")[0]["epoch"] == 0
    assert "--network_name: NOT used, since the network is that of init_checkpoint" in caplog.text


def test_outputs_that_are_not_those_of_the_classes(class_dataset, tmp_path):
    network = {"_target_": "monai_kd.networks.create_backbone", "name": "test_efficientnet", "num_classes": 4}
    with pytest.raises(RuntimeError) as caught:
        train("cls_student", class_dataset, tmp_path, recipe="none", network_def=network, taps={})
    assert "returns (4,) (channels, spatial axes), and (3,) are needed: an output for each of class_names (" in cause(
        caught.value
    )


def test_volumes_are_not_classified(class_dataset, tmp_path):
    files = [*config("cls_student", "train"), *config("seg_student", "volumes")]
    with pytest.raises(RuntimeError) as caught:
        create_workflow(config_file=files, workflow_type="train", dataset_dir=str(class_dataset), logging_file=False)
    assert "the config of a classification has one of volumes laid over it" in cause(caught.value)
