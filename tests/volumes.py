"""Small volumes like those of BraTS: four channels, and a label whose three regions lie within each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

MODALITIES = ["flair", "t1", "t1ce", "t2"]
REGIONS = {"tumour core": [1, 4], "whole tumour": [1, 2, 4], "enhancing tumour": [4]}
SPACING = (1.0, 1.0, 2.0)
# As many files have it: the first two axes run to the left and to the back.
AFFINE = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])

# Normalisation of groups: at the bridge of a patch of 16 voxels there is one voxel.
SMALL_TRAINING: dict[str, Any] = {
    **{"features": [8, 8, 8, 16, 16, 8], "norm": ["group", {"num_groups": 4}], "image_size": [16, 16, 16]},
    **{"epochs": 2, "batch_size": 2, "amp": False, "device": "cpu", "logging_file": False, "cache_rate": 1.0},
    "teacher_overrides": {"epochs": 1, "init_filters": 8},
}


def nested(size: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A head with a tumour: image (4, *size), int16, and label, uint8: 2 around 1 around 4, 0 elsewhere."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, length) for length in size), indexing="ij"))
    centre = random.uniform(-0.35, 0.35, len(size)).reshape(-1, *[1] * len(size))
    distance = np.sqrt(((grid - centre) ** 2).sum(0))
    label = np.zeros(size, np.uint8)
    for value, radius in ((2, 0.5), (1, 0.35), (4, 0.2)):
        label[distance < radius] = value
    head = (grid**2).sum(0) < 0.95
    # Each channel shows another of the regions best.
    bright = np.array([[0, 80, 150, 0, 120], [0, -40, -20, 0, 0], [0, 20, 10, 0, 200], [0, 60, 120, 0, 60]])
    image = random.normal(300, 15, (4, *size)) + bright[:, label]
    return (image * head).astype(np.int16), label * head.astype(np.uint8)


def write_volumes(
    folder: Path, count: int = 4, size: tuple[int, ...] = (24, 24, 16), folds: int = 2, stacked: bool = False
) -> Path:
    """A data set folder with a file for each channel, or with one 4-D file for all of them; a volume a patient."""
    entries = []
    for number in range(count):
        image, label = nested(size, number)
        patient = folder / f"P{number}"
        patient.mkdir(parents=True)
        if stacked:
            names = "image.nii.gz"
            nib.save(nib.Nifti1Image(np.moveaxis(image, 0, -1), AFFINE), patient / names)
        else:
            names = [f"{modality}.nii.gz" for modality in MODALITIES]
            for name, channel in zip(names, image, strict=True):
                nib.save(nib.Nifti1Image(channel, AFFINE), patient / name)
        nib.save(nib.Nifti1Image(label, AFFINE), patient / "seg.nii.gz")
        entries.append(
            {
                "image": f"P{number}/{names}" if stacked else [f"P{number}/{name}" for name in names],
                "label": f"P{number}/seg.nii.gz",
                **{"class": 0, "patient": f"P{number}", "group": f"P{number}", "fold": number % folds},
                "source": f"P{number}",
            }
        )
    datalist = {
        **{"name": "nested", "synthetic": True, "labels": {"1": "glioma"}, "regions": REGIONS},
        "modality": {str(number): name for number, name in enumerate(MODALITIES)},
        "training": entries,
    }
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder
