"""What is known of a checkpoint: by settings.json of this version and of 0.1, by the bundle, or not at all."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from tiny import BUNDLES, NAMES, NETWORKS, config, described, save, untrained

from monai_kd.bundle import Workflow, trained_network, trained_settings
from monai_kd.config import UntrustedNetwork

# settings.json as the four bundles of version 0.1 wrote it, without the paths.
_RUN = {
    **{"preset": "demo", "dataset_dir": "/data/phantoms", "fold": 0, "leave_out": [], "weight_decay": 0.0001},
    **{"amp": True, "seed": 0, "workers": 0, "resume": False, "val_interval": 1},
    **{"flip_probability": 0.5, "augmentation": []},
}
_BACKBONES = [
    {"name": "vgg11", "image_size": 64, "mlp_ratio": 0.03125},
    {"name": "vit_tiny_patch16_224", "image_size": 64},
]
_SEG_TEACHER = {
    "features": [16, 32, 64, 128, 192, 16],
    "norm": "batch",
    "vit_name": "vit_tiny_patch16_224",
    "vit_image_size": 96,
}
OLD: dict[str, dict[str, Any]] = {
    "seg_student": {
        **{"bundle_root": "/bundles/seg_student", "recipe": "kd_plus_plus", "init_checkpoint": None},
        "teacher": {
            **{"checkpoint": "/runs/teacher-430401bd31/model.pt", "dataset_dir": "/data/phantoms", "fold": 0},
            **{"leave_out": [], "epochs": 8, "learning_rate": 0.002, "image_size": 96, **_SEG_TEACHER},
        },
        **{"teacher_store": None, **_RUN, "epochs": 8, "batch_size": 8, "image_size": 96, "learning_rate": 0.002},
        **{"features": [8, 16, 32, 64, 96, 8], "norm": "batch", "temperature": 2.0, "projection_side": "teacher"},
        **{"supervised_weight": 1.0, "logit_weight": 1.0, "feature_weight": 0.1, "attention_weight": 0.1},
        **{"edge_weight": 0.1, "basic_alpha": 0.5, "basic_beta": 0.1},
    },
    "seg_teacher": {
        **{"bundle_root": "/bundles/seg_teacher", **_RUN, "epochs": 8, "batch_size": 8, "image_size": 96},
        **{"learning_rate": 0.002, **_SEG_TEACHER, "pretrained": False},
    },
    "cls_student": {
        **{"bundle_root": "/bundles/cls_student", "recipe": "kd"},
        "teacher": {
            **{"checkpoint": "/runs/teacher-fb785e8a67/model.pt", "dataset_dir": "/data/phantoms", "fold": 0},
            **{"leave_out": [], "epochs": 8, "learning_rate": 0.0003, "image_size": 64, "backbones": _BACKBONES},
        },
        **{"teacher_store": None, **_RUN, "epochs": 3, "batch_size": 16, "image_size": 64, "learning_rate": 0.002},
        **{"network_name": "efficientnet_b0", "pretrained": False, "teacher_freeze": False, "alpha": 0.1},
        **{"temperature": 4.0, "feature_weight": 1.0, "student_tap": "blocks.2", "student_tap_channels": 40},
        **{"teacher_tap": None, "teacher_tap_channels": 512, "projection_side": "teacher", "class_weights": None},
        **{"label_smoothing": 0.0, "mixup": 0.0, "class_names": NAMES},
    },
    "cls_teacher": {
        **{"bundle_root": "/bundles/cls_teacher", **_RUN, "epochs": 8, "batch_size": 16, "image_size": 64},
        **{"learning_rate": 0.0003, "pretrained": False, "backbones": _BACKBONES, "freeze": False},
        **{"class_weights": None, "label_smoothing": 0.0, "mixup": 0.0, "class_names": NAMES},
    },
}
# The networks as the configs of version 0.1 defined them.
OLD_NETWORKS: dict[str, dict[str, Any]] = {
    "seg_student": {
        **{"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 1},
        **{"features": "@features", "act": ["relu", {"inplace": True}], "norm": "@norm"},
    },
    "seg_teacher": {
        **{"_target_": "monai_kd.networks.HybridUNet", "in_channels": 3, "out_channels": 1, "features": "@features"},
        **{"norm": "@norm", "vit_name": "@vit_name", "vit_image_size": "@vit_image_size"},
    },
    "cls_student": {
        **{"_target_": "monai_kd.networks.create_backbone", "name": "@network_name"},
        **{"num_classes": "$len(@class_names)", "image_size": "@image_size"},
    },
    "cls_teacher": {
        **{"_target_": "monai_kd.networks.LateFusionClassifier", "backbones": "@backbones"},
        **{"num_classes": "$len(@class_names)"},
    },
}


def written(folder: Path, settings: dict[str, Any] | None) -> Path:
    """A checkpoint with a settings.json, as version 0.1 wrote it: without the checksum of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({}, folder / "model.pt")
    if settings is not None:
        (folder / "settings.json").write_text(json.dumps(settings))
    return folder / "model.pt"


@pytest.mark.parametrize("bundle", OLD)
def test_a_checkpoint_of_version_0_1_has_its_network_and_its_input(bundle, tmp_path, caplog):
    found = trained_settings(written(tmp_path, OLD[bundle]))
    expected = ConfigParser({**OLD[bundle], "network": OLD_NETWORKS[bundle]}).get_parsed_content("network").state_dict()
    network = trained_network(found).state_dict()
    assert {name: value.shape for name, value in network.items()} == {n: v.shape for n, v in expected.items()}
    assert found.items() >= OLD[bundle].items()
    assert (found["in_channels"], found["spatial_dims"], found["image_size"]) == (3, 2, OLD[bundle]["image_size"])
    assert (found["mean"], found["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (found["multiclass"], found["activation"], found["mask_names"]) == (False, "sigmoid", ["tumour"])
    assert found["class_names"] == OLD[bundle].get("class_names", [])
    assert f"whether it belongs to {tmp_path / 'model.pt'} is not checked" in caplog.text


@pytest.mark.parametrize("bundle", OLD)
def test_a_network_of_version_0_1_is_evaluated_and_used(bundle, tmp_path, disc_dataset):
    checkpoint = written(tmp_path, OLD[bundle])
    torch.save(trained_network(trained_settings(checkpoint)).state_dict(), checkpoint)
    for name in ("evaluate", "inference"):
        workflow = Workflow(
            config(bundle, name), workflow_type="infer", logging_file=False, checkpoint=str(checkpoint), device="cpu"
        )
        assert workflow.value("settings")["image_size"] == OLD[bundle]["image_size"]
        network = workflow.value("network").eval()
        item = {"image": str(disc_dataset / "images" / "0000.nii.gz")}
        image = workflow.value("preprocessing")(item)["image"]
        image = image if image.ndim == 3 else image[..., 0]
        size = OLD[bundle]["image_size"]
        assert image.shape == (3, size, size)
        with torch.no_grad():
            assert network(image[None].as_subclass(torch.Tensor)).shape[:2] == (1, len(found_classes(bundle)))


def found_classes(bundle: str) -> list[str]:
    return OLD[bundle].get("class_names", ["tumour"])


@pytest.mark.parametrize(
    ("bundle", "lacking"),
    [
        *(("seg_student", name) for name in ("features",)),
        *(("seg_teacher", name) for name in ("features", "vit_image_size")),
        *(("cls_student", name) for name in ("class_names", "image_size")),
        ("cls_teacher", "class_names"),
    ],
)
def test_a_file_of_version_0_1_that_lacks_what_made_its_network(bundle, lacking, tmp_path):
    settings = {name: value for name, value in OLD[bundle].items() if name != lacking}
    with pytest.raises(ValueError, match="does not describe the network") as caught:
        trained_settings(written(tmp_path, settings))
    assert lacking in str(caught.value)
    assert str(tmp_path / "settings.json") in str(caught.value)
    assert 'add the definition of the network as "network_def"' in str(caught.value)


@pytest.mark.parametrize("bundle", NETWORKS)
def test_settings_of_now_are_given_back(bundle, tmp_path, caplog):
    more = {
        **{"mean": [0.5], "std": [0.2], "in_channels": 1, "fold": 2, "leave_out": [1], "dataset_dir": "/data"},
        **{"taps": {"d1": "upcat_1"}, "teacher": {"checkpoint": "/runs/t.pt"}, "anything": [1]},
    }
    checkpoint = untrained(bundle, tmp_path, **more)
    found = trained_settings(checkpoint)
    expected = described(bundle, **more)
    assert {name: found[name] for name in expected} == expected
    assert caplog.text == ""
    state = torch.load(checkpoint, weights_only=True)
    assert trained_network(found).state_dict().keys() == state.keys()


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "network_def": [None, "BasicUNet", [], 3],
        "image_size": [0, -1, 32.0, "32", True, None, [], [32, 0], [32, "32"], {}],
        "in_channels": [0, 1.0, "3", None, True],
        "spatial_dims": [0, "2", None],
        "mean": ["0.5", [0.5, "0.5"], 0.5, [True]],
        "std": ["0.5", [None], {}],
        "class_names": [None, "glioma", [1], {}],
        "mask_names": [None, "tumour", [["tumour"]]],
        "multiclass": [0, "False", None],
        "activation": [None, "relu", "Sigmoid", ["sigmoid"]],
        "fold": [-1, 1.0, "0", True],
        "leave_out": [None, 1, [None], [-1], "0"],
        "dataset_dir": [1, ["/data"]],
        "teacher": ["model.pt", []],
        "taps": ["upcat_1", []],
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_values_are_refused_in_one_line(name, values, tmp_path):
    checkpoint = untrained("cls_student", tmp_path)
    whole = json.loads((tmp_path / "settings.json").read_text())
    for value in values:
        (tmp_path / "settings.json").write_text(json.dumps({**whole, name: value}))
        with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}, which is not a valid value")) as caught:
            trained_settings(checkpoint)
        assert len(str(caught.value).splitlines()) == 1
        assert str(tmp_path / "settings.json") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("std", 0.0), ("std", -0.2), ("std", float("inf")), ("mean", float("nan")), ("mean", -float("inf"))],
)
def test_numbers_that_nothing_is_normalised_by(name, value, tmp_path):
    checkpoint = untrained("seg_student", tmp_path, **{name: [0.2, value, 0.2]})
    with pytest.raises(ValueError, match=f"{name} is .*, which is not a valid value"):
        trained_settings(checkpoint)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("bundle", NETWORKS)
@pytest.mark.parametrize("old", [False, True], ids=["now", "0.1"])
def test_a_checkpoint_of_the_other_task_is_refused(name, bundle, old, tmp_path):
    masks = {"mask_names": ["tumour"], "class_names": NAMES} if name.startswith("seg") else {}
    checkpoint = written(tmp_path, OLD[name]) if old else untrained(name, tmp_path, **masks)
    if name[:3] == bundle[:3]:
        assert trained_settings(checkpoint, BUNDLES / bundle)["image_size"] > 0
        return
    found = "segmentation" if name.startswith("seg") else "classification"
    said = f"{checkpoint} does not fit {bundle}: it is of a {found}, see settings.json beside it"
    with pytest.raises(ValueError, match=re.escape(said)):
        trained_settings(checkpoint, BUNDLES / bundle)


@pytest.mark.parametrize(
    ("bundle", "key"),
    [
        ("seg_student", "features"),
        ("seg_student", "norm"),
        ("seg_teacher", "vit_name"),
        ("seg_teacher", "vit_image_size"),
        ("cls_student", "network_name"),
        ("cls_teacher", "backbones"),
    ],
)
def test_text_in_a_file_of_version_0_1_stays_text(bundle, key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "$__import__('pathlib').Path('marker').touch()"
    for value in (code, [code], {"_target_": "pathlib.Path.touch", "self": "marker"}, "@device"):
        checkpoint = written(tmp_path / "run", {**OLD[bundle], key: value})
        with pytest.raises((ValueError, RuntimeError)):
            trained_network(trained_settings(checkpoint))
    assert not (tmp_path / "marker").exists()


def test_a_network_that_a_stranger_named_is_not_built(tmp_path):
    conv = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 1}
    found = trained_settings(save(tmp_path, {}, network_def=conv, image_size=32))
    with pytest.raises(UntrustedNetwork, match=r"torch\.nn\.Conv2d is no network of"):
        trained_network(found)


def full(bundle: str) -> dict[str, Any]:
    return json.loads((BUNDLES / bundle / "configs" / "train.json").read_text())["presets"]["full"]


def check_full_size(bundle: str, found: dict[str, Any]) -> None:
    values, network = full(bundle), found["network_def"]
    assert found["image_size"] == values["image_size"]
    for name in ("features", "vit_name", "vit_image_size", "backbones"):
        assert network.get(name) == values.get(name)
    assert network.get("num_classes", 3) == 3
    assert found["class_names"] == (NAMES if bundle.startswith("cls") else [])
    assert found["in_channels"] == 3


@pytest.mark.parametrize("bundle", NETWORKS)
def test_without_settings_the_network_is_the_bundle_s_of_full_size_and_that_is_said(bundle, tmp_path, caplog):
    checkpoint = written(tmp_path, None)
    check_full_size(bundle, trained_settings(checkpoint, BUNDLES / bundle))
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert f"{checkpoint} has no settings.json beside it: assuming the network " in record.getMessage()
    with pytest.raises(ValueError, match=r"has no settings\.json beside it, which describes its network: restore it"):
        trained_settings(checkpoint)


@pytest.mark.parametrize("bundle", NETWORKS)
def test_without_a_checkpoint_a_config_can_be_looked_at(bundle, tmp_path, caplog):
    check_full_size(bundle, trained_settings(tmp_path / "none.pt", BUNDLES / bundle))
    assert caplog.text == ""
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*none\.pt; train first"):
        trained_settings(tmp_path / "none.pt")


@pytest.mark.parametrize("bundle", NETWORKS)
@pytest.mark.parametrize("name", ["evaluate", "inference"])
def test_that_is_so_in_a_workflow_of_this_package_too(bundle, name, tmp_path):
    given = {"checkpoint": str(tmp_path / "none.pt"), "logging_file": False, "workflow_type": "infer"}
    check_full_size(bundle, Workflow(config(bundle, name), **given).value("trained"))


def test_settings_beside_a_checkpoint_that_is_not_there_are_no_description(tmp_path):
    """A run that has begun, say: its settings are there, and no weights yet."""
    untrained("seg_student", tmp_path).unlink()
    found = trained_settings(tmp_path / "model.pt", BUNDLES / "seg_student")
    assert found["network_def"]["features"] == full("seg_student")["features"]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    untrained("seg_student", tmp_path / "runs")
    assert trained_settings("~/runs/model.pt")["network_def"] == NETWORKS["seg_student"]
