"""Training through the bundles, as a user starts it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from monai.networks.nets import BasicUNet
from tiny import OVERRIDES, SEG_TAUGHT_BY, TINY_STUDENT, TINY_TEACHER, cause, config, interrupted, prepare, rows, train

from monai_kd.bundle import trained_network, trained_settings
from monai_kd.config import cause_of
from monai_kd.engines import main_logits
from monai_kd.io.checkpoints import load_weights
from monai_kd.io.trained import read_settings


@pytest.fixture(scope="module")
def teacher(disc_dataset, tmp_path_factory) -> Path:
    output_dir = tmp_path_factory.mktemp("teacher")
    train("seg_teacher", disc_dataset, output_dir, **SEG_TAUGHT_BY)
    return output_dir / "model.pt"


@pytest.fixture(scope="module")
def class_teacher(class_dataset, tmp_path_factory) -> Path:
    output_dir = tmp_path_factory.mktemp("class_teacher")
    train("cls_teacher", class_dataset, output_dir, epochs=1)
    return output_dir / "model.pt"


@pytest.fixture(params=["seg_student", "cls_student"])
def taught(request) -> tuple[str, Path, dict]:
    """A student's bundle, its data, and the overrides of a recipe with a trained teacher."""
    kind = "class_" if request.param == "cls_student" else ""
    more = {"recipe": "msgff", "mixup": 0.4} if kind else {}
    given = {"teacher_checkpoint": str(request.getfixturevalue(f"{kind}teacher")), **more}
    return request.param, request.getfixturevalue(f"{kind or 'disc_'}dataset"), given


def test_student_trains_its_teacher_once_and_leaves_a_bare_network(disc_dataset, tmp_path, caplog):
    workflow = train("seg_student", disc_dataset, tmp_path, epochs=1)
    assert workflow.check_properties() == []
    assert "training the teacher FIRST" in caplog.text
    (folder,) = tmp_path.glob("teacher-*")
    trained = (folder / "model.pt").stat().st_mtime_ns
    student = BasicUNet(2, 3, 1, TINY_STUDENT["features"], act=("relu", {"inplace": True}), norm="batch")
    load_weights(student, tmp_path / "model.pt")
    for name in ("log.csv", "curves.png", "overlays.png", "last.ckpt", "settings.json"):
        assert (tmp_path / name).stat().st_size > 0
    told = read_settings(tmp_path / "settings.json")["teacher"]
    assert told.items() >= {"checkpoint": str(folder / "model.pt"), "dataset_dir": str(disc_dataset), "fold": 0}.items()
    assert (told["epochs"], told["learning_rate"]) == (1, 0.0005)
    network = told["network_def"]
    assert (network["features"], network["vit_name"]) == (SEG_TAUGHT_BY["features"], SEG_TAUGHT_BY["vit_name"])
    assert network == json.loads((folder / "settings.json").read_text())["network_def"]
    assert any((tmp_path / "tensorboard").iterdir())
    (row,) = rows(tmp_path)
    weighted = [value for name, value in row.items() if name.startswith("weighted/")]
    assert len(weighted) == 5
    assert sum(weighted) == pytest.approx(row["loss"], rel=1e-4)
    caplog.clear()
    train("seg_student", disc_dataset, tmp_path, epochs=1)
    assert "using the teacher trained earlier" in caplog.text
    assert (folder / "model.pt").stat().st_mtime_ns == trained


@pytest.mark.parametrize(("bundle", "recipe"), [("seg_student", "kd_plus_plus"), ("cls_student", "msgff")])
def test_without_anything_given_phantoms_are_made_and_a_teacher_is_trained(
    bundle, recipe, tmp_path, monkeypatch, caplog
):
    """The demo preset as it stands, with fewer slices and epochs."""
    monkeypatch.setenv("MONAI_KD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("monai_kd.bundle.data.PHANTOM_SLICES", 24)
    given = {"recipe": recipe, "epochs": 1, "teacher_overrides": {"epochs": 1}, "output_dir": str(tmp_path / "run")}
    quiet = {"device": "cpu", "amp": False, "logging_file": False}
    workflow = create_workflow(config_file=config(bundle, "train"), workflow_type="train", **given, **quiet)
    workflow.run()
    assert workflow.parser.get_parsed_content("preset") == "demo"
    for said in ("No dataset_dir was given: using SYNTHETIC", "Making 24 phantom slices", "No teacher_checkpoint was"):
        assert said in caplog.text
    assert (tmp_path / "run" / "model.pt").is_file()
    assert len(rows(tmp_path / "run")) == 1
    assert len(list((tmp_path / "home").glob("phantoms-24-*/dataset/images/*"))) == 24


def test_augmented_teacher_is_found_again(disc_dataset, tmp_path, caplog):
    def augmentation(degrees):
        return [{"_target_": "RandRotated", "keys": ["image", "label"], "range_x": degrees, "prob": 1.0}]

    train("seg_student", disc_dataset, tmp_path, epochs=1, augmentation=augmentation(0.1))
    train("seg_student", disc_dataset, tmp_path, epochs=1, augmentation=augmentation(0.1))
    assert "using the teacher trained earlier" in caplog.text
    train("seg_student", disc_dataset, tmp_path, epochs=1, augmentation=augmentation(0.2))
    assert len(list(tmp_path.glob("teacher-*"))) == 2


@pytest.mark.parametrize(
    ("recipe", "terms"),
    [
        ("none", {"supervised"}),
        ("kd", {"supervised", "logit"}),
        ("basic", {"bce", "output", "feature"}),
        ("basic_pooled", {"bce", "output", "pooled_feature"}),
    ],
)
def test_recipe_names_its_terms(disc_dataset, teacher, tmp_path, recipe, terms):
    train("seg_student", disc_dataset, tmp_path, recipe=recipe, teacher_checkpoint=str(teacher), epochs=1)
    (row,) = rows(tmp_path)
    assert {name.removeprefix("loss/") for name in row if name.startswith("loss/")} == terms


def test_the_teacher_is_described_beside_its_checkpoint(disc_dataset, teacher, tmp_path):
    values = {**TINY_STUDENT, "teacher_overrides": {}, "teacher_checkpoint": str(teacher)}
    values |= {"dataset_dir": str(disc_dataset), "output_dir": str(tmp_path)}
    workflow = create_workflow(config_file=config("seg_student", "train"), workflow_type="train", **values)
    (network,) = workflow.parser.get_parsed_content("distiller").teachers.values()
    assert network.vit_image_size == SEG_TAUGHT_BY["vit_image_size"]
    assert network.unet.final_conv.in_channels == SEG_TAUGHT_BY["features"][5]
    other = Path(shutil.copytree(teacher.parent, tmp_path / "other"))
    told = json.loads((other / "settings.json").read_text())
    told["network_def"]["features"] = [4] * 6
    (other / "settings.json").write_text(json.dumps(told))
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, tmp_path, teacher_checkpoint=str(other / "model.pt"))
    assert "does not fit HybridUNet" in cause(caught.value)


def test_failed_start_leaves_the_earlier_run_where_it_is(disc_dataset, tmp_path):
    train("seg_student", disc_dataset, tmp_path, recipe="none", epochs=1)
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for wrong in (
        {"recipe": "dk"},
        {"fold": 9},
        {"recipe": "basic", "teacher_checkpoint": "/nowhere/model.pt"},
        {"recipe": "none", "resume": True, "epochs": 3, "image_size": 48},
        {"recipe": "none", "resume": True, "epochs": 3, "features": [4, 4, 8, 8, 8, 8]},
    ):
        with pytest.raises((RuntimeError, ValueError)):
            train("seg_student", disc_dataset, tmp_path, **wrong)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == kept
        assert not list(tmp_path.glob("earlier-*"))


def test_resumed_run_has_the_losses_of_an_uninterrupted_one(taught, tmp_path):
    bundle, dataset, given = taught
    common = {**given, "epochs": 4, "workers": 0}
    train(bundle, dataset, tmp_path / "whole", **common)
    trainer = prepare(bundle, dataset, tmp_path / "parts", **common).trainer
    interrupted(trainer, after=2)
    train(bundle, dataset, tmp_path / "parts", resume=True, **common)
    whole, parts = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    assert len(whole) == len(parts) == 4
    for expected, found in zip(whole, parts, strict=True):
        del expected["seconds"], found["seconds"]
        assert expected == found
    for name in ("model.pt", "last.ckpt"):
        expected = torch.load(tmp_path / "whole" / name, weights_only=True)
        found = torch.load(tmp_path / "parts" / name, weights_only=True)
        expected, found = (state.get("network", state) for state in (expected, found))
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_store_of_the_teacher_changes_no_loss_and_serves_the_next_run(taught, tmp_path):
    bundle, dataset, given = taught
    common = {**given, "mixup": 0.0} if "mixup" in given else given
    train(bundle, dataset, tmp_path / "plain", **common)
    stored = {**common, "teacher_store": str(tmp_path / "store")}
    train(bundle, dataset, tmp_path / "filling", **stored)
    entries = list((tmp_path / "store").rglob("*.safetensors"))
    assert 1 <= len(entries) <= common.get("epochs", 2)
    trainer = prepare(bundle, dataset, tmp_path / "filled", **stored).trainer
    seen = []
    trainer.network.teachers["teacher"].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    trainer.run()
    assert sorted((tmp_path / "store").rglob("*.safetensors")) == sorted(entries)
    assert seen == []
    for plain, *others in zip(*(rows(tmp_path / name) for name in ("plain", "filling", "filled")), strict=True):
        for found in others:
            assert found.keys() == plain.keys()
            for name in plain.keys() - {"seconds"}:
                # A teacher asked about part of a batch rounds otherwise, and the store rounds to half precision.
                assert found[name] == pytest.approx(plain[name], rel=2e-3, abs=1e-4), name


def test_a_store_that_would_be_too_large_is_not_begun(disc_dataset, teacher, tmp_path, caplog):
    given = {"teacher_checkpoint": str(teacher), "teacher_store": str(tmp_path / "store"), "epochs": 1}
    for limit, live in ((1e-6, True), (1, False)):
        workflow = prepare("seg_student", disc_dataset, tmp_path / "run", **given, teacher_store_limit=limit)
        caplog.clear()
        with caplog.at_level("INFO"):
            distiller = workflow.parser.get_parsed_content("distiller")
        assert (distiller.store is None) is live
        count = 2 * len(workflow.parser.get_parsed_content("train#dataset#data"))
        assert f"GB for {count} images" in caplog.text
        assert ("the teacher runs LIVE" in caplog.text) is live


@pytest.mark.parametrize(
    "overrides", [{"augmentation": [{"_target_": "RandRotated", "keys": "image"}]}, {"mixup": 0.4}]
)
def test_store_is_refused_when_no_image_comes_twice(class_dataset, class_teacher, tmp_path, overrides):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        train(
            "cls_student",
            class_dataset,
            tmp_path,
            teacher_checkpoint=str(class_teacher),
            teacher_store=str(tmp_path / "store"),
            **overrides,
        )
    assert "no image occurs twice" in cause(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"epoch": 3}, r"unknown override: --epoch \(did you mean --epochs"),
        ({"dataset_dir": "/nowhere/at/all"}, "there is no folder /nowhere/at/all"),
        ({"teacher_checkpoint": "/nowhere/model.pt"}, "there is no checkpoint /nowhere/model.pt"),
        ({"fold": 9}, "9 is none of them"),
        ({"epochs": 0}, "epochs must be a whole number from 1"),
        ({"image_size": 100}, "image_size must be a multiple of 16"),
        (
            {"recipe": "dk"},
            "recipe must be one of basic, basic_pooled, boundary, .*kd_plus_plus, none, soft_dice, got 'dk'",
        ),
        ({"preset": "tiny"}, "preset must be one of demo, full"),
    ],
)
def test_bad_override_is_one_clear_error(disc_dataset, tmp_path, overrides, message):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        train("seg_student", disc_dataset, tmp_path, **overrides)
    assert re.search(message, cause(caught.value))


def test_command_from_another_folder_finds_its_bundle_and_says_the_error_last(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", config("seg_student", "train")[0]]
        + ["--epoch", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert run.stderr.strip().splitlines()[-1].startswith("ValueError: unknown override: --epoch")


def test_weights_that_cannot_be_downloaded_end_with_the_ways_out(disc_dataset, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file", config("seg_teacher", "train")[0]]
        + [f"--{name}={value}" for name, value in {**TINY_TEACHER, "pretrained": True}.items()]
        + [f"--dataset_dir={disc_dataset}", f"--output_dir={tmp_path}"],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")},
    )
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: the pretrained weights of 'vit_tiny_patch16_224' could not be downloaded")
    assert "give the path of a local weights file" in last
    assert "start from random weights" in last


@pytest.mark.parametrize("own", [RuntimeError("our sentence"), ValueError("our sentence")])
def test_only_the_wrappers_of_monai_are_taken_off(own):
    own.__cause__ = KeyError("inner")

    def fail():
        raise own

    parser = ConfigParser({"built": {"_target_": fail}, "given": "$[@built]"})
    with pytest.raises(RuntimeError, match="Failed to instantiate") as caught:
        parser.get_parsed_content("given")
    assert cause_of(caught.value) is own
    parser = ConfigParser({"raised": "$fail()"}, globals={"fail": fail})
    with pytest.raises(RuntimeError, match="Failed to evaluate") as caught:
        parser.get_parsed_content("raised")
    assert cause_of(caught.value) is own


def _torchrun(
    processes: int, bundle: str, dataset: Path, output_dir: Path, batch_size: int, **more
) -> list[dict[str, float]]:
    files = config(bundle, "train", "multi_gpu_train")
    small = {**OVERRIDES[bundle], "batch_size": batch_size, "flip_probability": 0.0, "epochs": 2, **more}
    overrides = [f"--{name}={value}" for name, value in small.items()]
    run = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        + ["-m", "monai.bundle", "run", "training", "--config_file", json.dumps(files)]
        + [*overrides, f"--dataset_dir={dataset}", f"--output_dir={output_dir}"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return rows(output_dir)


def test_two_gloo_processes_train_as_one(disc_dataset, teacher, tmp_path):
    """Half the batch in each of two processes gives the losses of one; instance norm, since batch norm sees halves."""
    given = {"norm": "instance", "teacher_checkpoint": teacher}
    one = _torchrun(1, "seg_student", disc_dataset, tmp_path / "one", 4, **given)
    two = _torchrun(2, "seg_student", disc_dataset, tmp_path / "two", 2, **given)
    for expected, found in zip(one, two, strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3)
        assert found["val/dice"] == pytest.approx(expected["val/dice"], abs=1e-3)
    state = torch.load(tmp_path / "two" / "model.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in state)


def test_two_gloo_processes_train_their_teacher_first(disc_dataset, tmp_path):
    given = {"norm": "instance", "epochs": 1}
    (row,) = _torchrun(2, "seg_student", disc_dataset, tmp_path, 2, **given)
    assert row["loss/logit"] > 0
    (folder,) = tmp_path.glob("teacher-*")
    assert len(rows(folder)) == SEG_TAUGHT_BY["epochs"]
    state = torch.load(folder / "model.pt", weights_only=True)
    assert not any(key.startswith("module.") for key in state)


def test_two_gloo_processes_train_a_classifier_as_one_without_torchrun(class_dataset, class_teacher, tmp_path):
    # All 12 slices are one batch, so that their order does not matter.
    given = {"recipe": "msgff", "teacher_checkpoint": str(class_teacher)}
    train("cls_student", class_dataset, tmp_path / "one", batch_size=12, flip_probability=0.0, **given)
    _torchrun(2, "cls_student", class_dataset, tmp_path / "two", 6, **given)
    for expected, found in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3)
        assert found["weighted/msgff"] == pytest.approx(expected["weighted/msgff"], rel=1e-3)
        assert found["val/accuracy"] == pytest.approx(expected["val/accuracy"], abs=1e-3)
    one, two = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("one", "two"))
    assert one.keys() == two.keys()


@pytest.mark.parametrize("bundle", list(OVERRIDES))
def test_metric_of_the_training_batches_is_there_on_request(bundle, disc_dataset, class_dataset, tmp_path):
    dataset = class_dataset if bundle.startswith("cls") else disc_dataset
    common = {"epochs": 1, **({"recipe": "none"} if bundle.endswith("student") else {})}
    plain = train(bundle, dataset, tmp_path / "plain", **common)
    asked = train(bundle, dataset, tmp_path / "asked", **common, **{"train#key_metric": {"mine": "$@metric()"}})
    found = [run.parser.get_parsed_content("train#trainer").state.metrics for run in (plain, asked)]
    assert "mine" not in found[0]
    assert 0 <= found[1]["mine"] <= 1
    # The metric changes nothing.
    states = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("plain", "asked")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


TORCHVISION = {
    **{"_target_": "torchvision.models.segmentation.lraspp_mobilenet_v3_large", "num_classes": 1},
    **{"weights": None, "weights_backbone": None},
}


@pytest.mark.parametrize("bundle", ["seg_student", "seg_teacher"])
def test_a_segmentation_of_torchvision_returns_a_mapping(bundle, disc_dataset, tmp_path, monkeypatch):
    recipe = {"recipe": "none"} if bundle == "seg_student" else {}
    train(bundle, disc_dataset, tmp_path, epochs=1, network_def=TORCHVISION, taps={}, **recipe)
    monkeypatch.setenv("MONAI_KD_NETWORKS", "torchvision.models.segmentation")
    model = tmp_path / "model.pt"
    network = trained_network(trained_settings(model), model).eval()
    assert main_logits(network(torch.zeros(1, 3, 32, 32)), network, 4).shape == (1, 1, 32, 32)
