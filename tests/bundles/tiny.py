"""Bundles that are small enough for a test."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import create_workflow

from monai_kd.config import build_network
from monai_kd.io import save_checkpoint
from monai_kd.io.checksum import file_sha256

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = ["meningioma", "glioma", "pituitary"]

TINY = {
    "image_size": 32,
    "epochs": 2,
    "batch_size": 4,
    "features": [4, 4, 8, 8, 8, 4],
    "amp": False,
    "device": "cpu",
    "logging_file": False,
}
TINY_VIT = {"vit_name": "vit_tiny_patch16_224", "vit_image_size": 32}
# What the teacher of a tiny student is trained with.
SEG_TAUGHT_BY = {"features": [4, 8, 8, 8, 16, 4], "epochs": 1, **TINY_VIT}
TINY_STUDENT = {**TINY, "teacher_overrides": SEG_TAUGHT_BY}
TINY_TEACHER = {**TINY, **TINY_VIT}

# Backbones of some hundred thousand weights. LayerNorm, since BatchNorm would see other batches in several processes.
TINY_BACKBONES = [{"name": "test_resnet", "image_size": 32}, {"name": "test_vit", "image_size": 32}]
TINY_CLASSES = {**{name: value for name, value in TINY.items() if name != "features"}, "learning_rate": 0.001}
TINY_CLS_TEACHER = {**TINY_CLASSES, "backbones": TINY_BACKBONES}
CLS_TAUGHT_BY = {"backbones": TINY_BACKBONES, "epochs": 1}
TINY_CLS_STUDENT = {
    **TINY_CLASSES,
    "network_name": "test_efficientnet_ln",
    "teacher_overrides": CLS_TAUGHT_BY,
    "teacher_taps": {"msgff": "backbones.0.layer2"},
}
OVERRIDES = {
    "seg_student": TINY_STUDENT,
    "seg_teacher": TINY_TEACHER,
    "cls_student": TINY_CLS_STUDENT,
    "cls_teacher": TINY_CLS_TEACHER,
}

# Tiny networks that are not trained, as settings.json describes them.
_UNET = {"in_channels": 3, "out_channels": 1, "features": TINY["features"], "norm": "batch"}
NETWORKS: dict[str, dict[str, Any]] = {
    "seg_student": {"_target_": "BasicUNet", "spatial_dims": 2, **_UNET, "act": ["relu", {"inplace": True}]},
    "seg_teacher": {"_target_": "monai_kd.networks.HybridUNet", **_UNET, **TINY_VIT},
    "cls_student": {
        **{"_target_": "monai_kd.networks.create_backbone", "name": "test_efficientnet"},
        **{"num_classes": 3, "image_size": 32},
    },
    "cls_teacher": {
        "_target_": "monai_kd.networks.LateFusionClassifier",
        **{"backbones": TINY_BACKBONES, "num_classes": 3},
    },
}
TAPS_OF_TEACHER = {f"d{level}": f"unet.upcat_{level}" for level in (4, 3, 2, 1)}
SEGMENTATION = ("seg_student", "seg_teacher")
CLASSIFICATION = ("cls_student", "cls_teacher")


def described(bundle: str, **more: Any) -> dict[str, Any]:
    """What settings.json needs to say of a tiny checkpoint of the bundle."""
    names = {"class_names": NAMES} if bundle in CLASSIFICATION else {}
    return {"network_def": NETWORKS[bundle], "image_size": 32, **names, **more}


def save(folder: Path, state: Mapping[str, torch.Tensor], **settings: Any) -> Path:
    """A checkpoint, and beside it a settings.json with these values."""
    path = folder / "model.pt"
    save_checkpoint(dict(state), path)
    (folder / "settings.json").write_text(json.dumps({**settings, "weights_sha256": file_sha256(path)}))
    return path


# A network whose answer is known: foreground where the slice, scaled to 0 … 1 and normalised, is above one half.
BRIGHT = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 1}


def bright(folder: Path, steepness: float = 50.0, **more: Any) -> dict[str, Any]:
    """Overrides that evaluate `BRIGHT`: of torch, so that a config must name it, and no settings.json may."""
    half = (0.5 - 0.485) / 0.229
    state = {"weight": torch.zeros(1, 3, 1, 1), "bias": torch.tensor([-steepness * half])}
    state["weight"][0, 0] = steepness
    return {
        "checkpoint": str(save(folder, state, network_def=BRIGHT, **{"image_size": 32, **more})),
        "network_def": BRIGHT,
    }


def untrained(bundle: str, folder: Path, draw: int = 0, **more: Any) -> Path:
    """A checkpoint of the bundle's tiny network with random weights, the same in every call with this ``draw``."""
    values = described(bundle, **more)
    with torch.random.fork_rng():
        torch.manual_seed(draw)
        state = build_network(values["network_def"]).state_dict()
    return save(folder, state, **values)


def config(bundle: str, *names: str) -> list[str]:
    return [str(BUNDLES / bundle / "configs" / f"{name}.json") for name in names]


def prepare(bundle: str, dataset: Path, output_dir: Path, **overrides):
    values = {**OVERRIDES[bundle], "dataset_dir": str(dataset), "output_dir": str(output_dir), **overrides}
    return create_workflow(config_file=config(bundle, "train"), workflow_type="train", **values)


def interrupted(trainer, after: int) -> None:
    """Run it until the checkpoint of an epoch is written, as when the machine goes down then."""

    def stop(engine) -> None:
        if engine.state.epoch == after:
            raise KeyboardInterrupt

    trainer.add_event_handler(Events.EPOCH_COMPLETED, stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()


def train(bundle: str, dataset: Path, output_dir: Path, **overrides):
    workflow = prepare(bundle, dataset, output_dir, **overrides)
    workflow.run()
    workflow.finalize()
    return workflow


def infer(bundle: str, name: str, **values) -> None:
    """Run one of its configs that train nothing, on the CPU in float32."""
    quiet = {"device": "cpu", "amp": False, "logging_file": False}
    workflow = create_workflow(config_file=config(bundle, name), workflow_type="infer", **{**quiet, **values})
    workflow.run()
    workflow.finalize()


def settings_of(folder: Path) -> dict[str, Any]:
    """Its settings.json."""
    return json.loads((folder / "settings.json").read_text())


def rows(output_dir: Path) -> list[dict[str, float]]:
    """log.csv, an epoch a row."""
    with open(output_dir / "log.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def cause(error: BaseException) -> str:
    """What an error comes from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
