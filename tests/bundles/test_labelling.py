"""Training on slices that are given one by one, as MONAI Label's app for bundles does it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser, create_workflow
from monai.networks.nets import BasicUNet
from tiny import BUNDLES, NETWORKS, TINY, TINY_VIT, cause, described, prepare, rows, save, train, untrained

from monai_kd.io.trained import read_settings
from monai_kd.networks import HybridUNet

WIDTHS = NETWORKS["seg_student"]["features"]


@pytest.fixture
def app(tmp_path) -> Path:
    """``model/`` of an app, with a served student of widths that no preset has."""
    shutil.copytree(BUNDLES / "seg_student" / "configs", tmp_path / "model" / "seg_student" / "configs")
    student = BasicUNet(2, 3, 1, WIDTHS, act=("relu", {"inplace": True}), norm="batch")
    save(tmp_path / "model" / "seg_student" / "models", student.state_dict(), **described("seg_student"))
    return tmp_path / "model"


@pytest.fixture
def given(disc_dataset) -> list[dict[str, str]]:
    return [
        {"image": str(image), "label": str(disc_dataset / "labels" / image.name)}
        for image in sorted((disc_dataset / "images").iterdir())[:6]
    ]


def label(app: Path, given: list, validation: list, epochs: int = 1, **more) -> Path:
    """What `monailabel.tasks.train.bundle.BundleTrainTask` hands to ``monai.bundle.run``, and that to this."""
    bundle = app / "seg_student"
    config = ConfigParser.load_config_file(bundle / "configs" / "train.json")
    workflow = create_workflow(
        workflow_type="train",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "train.json"),
        logging_file=False,
        **{
            "bundle_root": str(bundle),
            "train#trainer#max_epochs": epochs,
            "train#dataset#data": given,
            "validate#dataset#data": validation,
            "device": "cpu",
            "train#handlers": config["train"]["handlers"],
            **more,
        },
    )
    workflow.run()
    workflow.finalize()
    return bundle / "models"


def test_goes_on_from_the_served_weights_and_replaces_them(app, given):
    before = torch.load(app / "seg_student" / "models" / "model.pt", weights_only=True)
    models = label(app, given[:4], given[4:], epochs=2, learning_rate=1e-9)
    after = torch.load(models / "model.pt", weights_only=True)
    for name, weight in before.items():
        if "running" not in name and "tracked" not in name:
            # With a rate that moves nothing, what is published is what was served.
            torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6)
    settings = read_settings(models / "settings.json")
    assert settings["network_def"] == NETWORKS["seg_student"]
    assert (settings["image_size"], settings["epochs"]) == (32, 2)
    assert (settings["recipe"], settings["preset"]) == ("none", "labelling")
    # So that nobody later takes these slices for new ones.
    assert (settings["dataset_dir"], settings["fold"]) == (None, None)
    logged = rows(models)
    assert [row["epoch"] for row in logged] == [0, 1, 2]
    assert logged[0].keys() == {"epoch", "val/dice"}
    assert (models / "earlier-1" / "model.pt").is_file()
    # MONAI Label offers every *.pt of the folder as weights, and takes the shortest name first.
    assert [path.name for path in models.glob("*.pt")] == ["model.pt"]


def test_what_was_served_is_held_against_what_is_published(app, given, disc_dataset, tmp_path, caplog):
    """The Dice before training is what evaluation finds; an epoch that spoils it is published, and that is said."""
    served = app / "seg_student" / "models" / "model.pt"
    train("seg_student", disc_dataset, tmp_path / "first", recipe="none", epochs=8, fold=0)
    for name in ("model.pt", "settings.json"):
        shutil.copy(tmp_path / "first" / name, served.with_name(name))
    expected = max(row["val/dice"] for row in rows(tmp_path / "first"))
    assert expected > 0
    fold = json.loads((disc_dataset / "datalist.json").read_text())["training"]
    validation = [
        {"image": str(disc_dataset / item["image"]), "label": str(disc_dataset / item["label"])}
        for item in fold
        if item["fold"] == 0
    ]
    spoiling = {"learning_rate": 0.3, "flip_probability": 0.0, "batch_size": 4, "amp": False}
    with caplog.at_level("WARNING"):
        models = label(app, given[:4], validation, epochs=1, **spoiling)
    before, after = rows(models)
    assert before["val/dice"] == pytest.approx(expected, abs=1e-6)
    assert after["val/dice"] < before["val/dice"]
    assert "no epoch was better than the initial weights" in caplog.text
    changed, kept = (torch.load(path, weights_only=True) for path in (served, models / "earlier-1" / "model.pt"))
    assert not torch.equal(changed["final_conv.weight"], kept["final_conv.weight"])


def test_a_teacher_beside_it_teaches(app, given):
    network = {**NETWORKS["seg_teacher"], "features": [4, 8, 8, 8, 16, 4]}
    teacher = HybridUNet(3, 1, network["features"], "batch", **TINY_VIT)
    taps = {f"d{level}": f"unet.upcat_{level}" for level in (4, 3, 2, 1)}
    save(app / "seg_teacher" / "models", teacher.state_dict(), network_def=network, image_size=32, taps=taps)
    models = label(app, given[:4], given[4:])
    settings = read_settings(models / "settings.json")
    assert settings["recipe"] == "kd_plus_plus"
    assert settings["teacher"]["checkpoint"] == str(app / "seg_teacher" / "models" / "model.pt")
    assert "attention" in (models / "log.csv").read_text().splitlines()[0]


def test_all_on_one_side_of_the_split(app, given, caplog):
    models = label(app, given[:3], [])
    assert "the 3 TRAINING images" in caplog.text
    assert (models / "model.pt").is_file()


def test_nothing_labelled_is_said_and_changes_nothing(app):
    before = (app / "seg_student" / "models" / "model.pt").read_bytes()
    with pytest.raises((RuntimeError, ValueError)) as caught:
        label(app, [], [])
    assert "nothing is labelled yet" in cause(caught.value)
    assert (app / "seg_student" / "models" / "model.pt").read_bytes() == before


def test_weights_of_other_widths_are_refused(app, given):
    models = app / "seg_student" / "models"
    wider = {**NETWORKS["seg_student"], "features": [8, 8, 8, 8, 8, 8]}
    save(models, torch.load(models / "model.pt", weights_only=True), network_def=wider, image_size=32)
    with pytest.raises(RuntimeError) as caught:
        label(app, given[:4], given[4:])
    assert "does not fit BasicUNet" in cause(caught.value)
    assert "(4,) for (8,)" in cause(caught.value)


def test_fine_tuning_from_a_checkpoint_by_hand(app, disc_dataset, tmp_path):
    values = {name: value for name, value in TINY.items() if name not in ("features", "image_size")}
    checkpoint = app / "seg_student" / "models" / "model.pt"
    bundle = {"recipe": "none", "init_checkpoint": str(checkpoint), "features": WIDTHS, "image_size": 32}
    train("seg_student", disc_dataset, tmp_path / "tuned", **{**values, **bundle, "learning_rate": 1e-9, "epochs": 1})
    before, after = (torch.load(path, weights_only=True) for path in (checkpoint, tmp_path / "tuned" / "model.pt"))
    weight = "final_conv.weight"
    torch.testing.assert_close(after[weight], before[weight], rtol=0, atol=1e-6)


def test_slices_are_normalised_as_the_first_weights_want_them(app, disc_dataset, tmp_path):
    """Epoch 0, before any step, is the network as it is served."""
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    checkpoint = untrained("seg_student", tmp_path / "first", **half)
    values = {name: value for name, value in TINY.items() if name not in ("features", "image_size")}
    values |= {"recipe": "none", "init_checkpoint": str(checkpoint), "epochs": 1}
    workflow = prepare("seg_student", disc_dataset, tmp_path / "tuned", **values)
    usual = prepare("seg_student", disc_dataset, tmp_path / "other", recipe="none")
    image, other = (
        torch.as_tensor(each.parser.get_parsed_content("validate#dataset")[0]["image"])[0] for each in (workflow, usual)
    )
    torch.testing.assert_close(image * 0.5 + 0.5, other * 0.229 + 0.485)
    workflow.run()
    settings = read_settings(tmp_path / "tuned" / "settings.json")
    assert {name: settings[name] for name in half} == half


def test_going_on_is_not_starting_again(app, disc_dataset, tmp_path):
    """What an interrupted run had learnt is not overwritten by the weights that it once began with."""
    values = {name: value for name, value in TINY.items() if name not in ("features", "image_size")}
    checkpoint = app / "seg_student" / "models" / "model.pt"
    values |= {"recipe": "none", "init_checkpoint": str(checkpoint), "features": WIDTHS, "image_size": 32}
    train("seg_student", disc_dataset, tmp_path, **{**values, "epochs": 1})
    learnt = torch.load(tmp_path / "last.ckpt", weights_only=True)["network"]
    workflow = prepare("seg_student", disc_dataset, tmp_path, **{**values, "epochs": 2, "resume": True})
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    network = workflow.parser.get_parsed_content("network")
    seen = []
    trainer.add_event_handler(
        Events.EPOCH_STARTED(once=2), lambda: seen.append(network.final_conv.weight.detach().clone())
    )
    workflow.run()
    torch.testing.assert_close(seen[0], learnt["final_conv.weight"], rtol=0, atol=0)
    assert [row["epoch"] for row in rows(tmp_path)] == [0, 1, 2]


def test_slices_are_seen_upright_however_they_are_stored(disc_dataset, tmp_path):
    turned = tmp_path / "turned"
    shutil.copytree(disc_dataset, turned)
    for path in [*turned.glob("images/*"), *turned.glob("labels/*")]:
        image = nib.as_closest_canonical(nib.load(path))
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine), path)
    seen = []
    for folder in (disc_dataset, turned):
        workflow = create_workflow(
            config_file=str(BUNDLES / "seg_student" / "configs" / "train.json"),
            workflow_type="train",
            **{**TINY, "dataset_dir": str(folder), "recipe": "none", "flip_probability": 0.0},
        )
        seen.append(workflow.parser.get_parsed_content("train#dataset")[0])
    for key in ("image", "label"):
        torch.testing.assert_close(seen[0][key], seen[1][key])
