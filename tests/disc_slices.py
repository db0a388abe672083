"""A data set whose tumours are bright discs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

SPACING = (0.5, 0.5, 6.0)


def write_disc_slices(
    folder: Path,
    count: int = 12,
    size: int = 64,
    folds: int = 3,
    class_of: Callable[[int], int] = lambda patient: patient % 3,
) -> Path:
    """A data set folder of NIfTI slices with a bright disc as the tumour, two slices a patient."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    x, y = np.mgrid[:size, :size]
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    entries = []
    for number in range(count):
        centre = random.uniform(0.3 * size, 0.7 * size, 2)
        mask = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (0.15 * size) ** 2
        image = (random.normal(100, 10, mask.shape) + 200 * mask).astype(np.int16)
        for kind, array in (("images", image), ("labels", mask.astype(np.uint8))):
            nib.save(nib.Nifti1Image(array[..., None], affine), folder / kind / f"{number:04d}.nii.gz")
        patient = number // 2
        entries.append(
            {
                "image": f"images/{number:04d}.nii.gz",
                "label": f"labels/{number:04d}.nii.gz",
                "class": class_of(patient),
                "patient": f"P{patient}",
                "group": f"P{patient}",
                "fold": patient % folds,
                "source": f"{number}.mat",
            }
        )
    labels = {"1": "meningioma", "2": "glioma", "3": "pituitary"}
    datalist = {"name": "discs", "labels": labels, "spacing": list(SPACING), "synthetic": True, "training": entries}
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder
