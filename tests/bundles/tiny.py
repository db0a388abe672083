"""Bundles that are small enough for a test."""

import csv
from pathlib import Path

from monai.bundle import create_workflow

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"

TINY = {
    "image_size": 32,
    "epochs": 2,
    "batch_size": 4,
    "features": [4, 4, 8, 8, 8, 4],
    "amp": False,
    "device": "cpu",
    "logging_file": False,
}
TINY_STUDENT = {
    **TINY,
    "teacher_features": [4, 8, 8, 8, 16, 4],
    "teacher_epochs": 1,
    "vit_name": "vit_tiny_patch16_224",
    "vit_image_size": 32,
}
TINY_TEACHER = {**TINY, "vit_name": "vit_tiny_patch16_224", "vit_image_size": 32}

# Backbones of some hundred thousand weights. LayerNorm, since BatchNorm would see other batches in several processes.
TINY_BACKBONES = [{"name": "test_resnet", "image_size": 32}, {"name": "test_vit", "image_size": 32}]
TINY_CLASSES = {**{name: value for name, value in TINY.items() if name != "features"}, "learning_rate": 0.001}
TINY_CLS_TEACHER = {**TINY_CLASSES, "backbones": TINY_BACKBONES}
TINY_CLS_STUDENT = {
    **TINY_CLASSES,
    "network_name": "test_efficientnet_ln",
    "student_tap_channels": 32,
    "teacher_backbones": TINY_BACKBONES,
    "teacher_epochs": 1,
    "teacher_tap": "backbones.0.layer2",
    "teacher_tap_channels": 48,
}
OVERRIDES = {
    "seg_student": TINY_STUDENT,
    "seg_teacher": TINY_TEACHER,
    "cls_student": TINY_CLS_STUDENT,
    "cls_teacher": TINY_CLS_TEACHER,
}

# What makes networks tiny that are not trained.
SMALL = {
    "seg_student": {"features": [4, 4, 8, 8, 8, 4], "norm": "batch", "image_size": 32},
    "seg_teacher": {
        **{"features": [4, 4, 8, 8, 8, 4], "norm": "batch", "image_size": 32},
        **{"vit_name": "vit_tiny_patch16_224", "vit_image_size": 32},
    },
    "cls_student": {"network_name": "test_efficientnet", "image_size": 32},
    "cls_teacher": {"backbones": TINY_BACKBONES, "image_size": 32},
}
SEGMENTATION = ("seg_student", "seg_teacher")
CLASSIFICATION = ("cls_student", "cls_teacher")


def config(bundle: str, *names: str) -> list[str]:
    return [str(BUNDLES / bundle / "configs" / f"{name}.json") for name in names]


def prepare(bundle: str, dataset: Path, output_dir: Path, **overrides):
    values = {**OVERRIDES[bundle], "dataset_dir": str(dataset), "output_dir": str(output_dir), **overrides}
    return create_workflow(config_file=config(bundle, "train"), workflow_type="train", **values)


def train(bundle: str, dataset: Path, output_dir: Path, **overrides):
    workflow = prepare(bundle, dataset, output_dir, **overrides)
    workflow.run()
    workflow.finalize()
    return workflow


def rows(output_dir: Path) -> list[dict[str, float]]:
    """log.csv, an epoch a row."""
    with open(output_dir / "log.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def cause(error: BaseException) -> str:
    """What an error comes from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
