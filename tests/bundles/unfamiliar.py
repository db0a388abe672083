"""Networks that have learnt what training slices look like, and images that look unlike them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from tiny import untrained

from monai_kd.__main__ import main


def taught(bundle: str, folder: Path, dataset: Path) -> Path:
    """A network with random weights, and what the slices of a data set look like to it."""
    path = untrained(bundle, folder)
    assert main(["familiarity", bundle, str(path), str(dataset), "--device", "cpu"]) == 0
    return path


def stripes(path: Path, slices: int = 1) -> Path:
    image = np.tile((np.arange(64) // 2 % 2 * 900)[:, None, None], (1, 64, slices))
    nib.save(nib.Nifti1Image(image.astype(np.int16), np.eye(4)), path)
    return path
