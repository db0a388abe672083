"""Overrides that make a bundle small enough for a test."""

from pathlib import Path

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


def config(bundle: str, *names: str) -> list[str]:
    return [str(BUNDLES / bundle / "configs" / f"{name}.json") for name in names]
