"""A folder of slices without a tumour."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from data_prep.negatives import write_negatives


def write_heads(folder: Path) -> Path:
    """Slices of an ellipsoid, cut by `data_prep negatives`."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
    values = np.where((grid**2).sum(0) < 0.8, 60 + 20 * grid[0], 0).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), folder / "healthy.nii.gz")
    write_negatives(folder / "negatives", [folder / "healthy.nii.gz"], step_mm=12, progress=False)
    return folder / "negatives"
