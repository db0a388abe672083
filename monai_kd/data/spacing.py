"""The pixel size of an image, and whether its file records a geometry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

from ..io.kinds import kind_by_suffix

__all__ = ["has_geometry", "in_plane_spacing", "voxel_spacing"]


def has_geometry(image: torch.Tensor) -> bool:
    """Whether the file of a loaded image records a geometry; pictures and DICOM without a spacing do not."""
    if not isinstance(image, MetaTensor):
        return False
    name, spacing = image.meta.get("filename_or_obj"), image.meta.get("spacing")
    if name and kind_by_suffix(str(name)) == "picture":
        return False
    return spacing is None or bool(torch.as_tensor(spacing)[:2].isfinite().all())


def in_plane_spacing(image: MetaTensor, path: str | Path, listed: Sequence[float] | None) -> tuple[float, float]:
    """Size of a pixel along the first two axes of a slice, in mm.

    Args:
        image: the slice in the geometry of its file. Its metadata ``spacing`` is used, which `monai_kd.io.read_image`
            converts to mm, or else its affine, where the format records one.
        path: file of the image.
        listed: ``spacing`` of the data list, used for files that record none (PNG, JPEG).

    Shape:
        - image: (C, H, W), with a 4 × 4 affine.

    Raises:
        ValueError: the file does not record the size of its pixels, and the data list has no spacing.
    """
    known = image.meta.get("spacing")
    if known is not None:
        spacing = np.asarray(torch.as_tensor(known), dtype=float).ravel()[:2]
    elif kind_by_suffix(path) == "picture":
        # These do not record the size of a pixel.
        spacing = np.full(2, np.nan)
    else:
        # Lengths of the whole columns of the affine: `pixdim` of a 2-D MetaTensor drops the third row, which has the
        # pixel height of sagittal and coronal slices.
        spacing = torch.as_tensor(image.affine)[:3, :2].double().norm(dim=0).numpy()
    if np.isfinite(spacing).all():
        return float(spacing[0]), float(spacing[1])
    if listed is None or len(listed) < 2:
        raise ValueError(
            f"{path} does not record the size of a pixel, and datalist.json has no 'spacing': add it, [x, y, z] in mm."
        )
    return float(listed[0]), float(listed[1])


def voxel_spacing(volume: MetaTensor, path: str | Path) -> tuple[float, float, float]:
    """Size of a voxel in mm; of slices that are tilted against their stack, the distance between their planes.

    So the product of the three is the volume of a voxel in either case.

    Args:
        volume: in the geometry of its file. Its metadata ``spacing`` says whether the size is known.
        path: file of the volume.

    Shape:
        - volume: (C, H, W, D), with a 4 × 4 affine.

    Raises:
        ValueError: the file does not record the size of its voxels.
    """
    axes = torch.as_tensor(volume.affine)[:3, :3].double()
    known = torch.as_tensor(volume.meta.get("spacing", 1.0))
    if not known.isfinite().all() or not axes.isfinite().all():
        raise ValueError(f"{path} does not record the size of a voxel, so that nothing in mm can be measured: add it.")
    columns, rows = axes[:, :2].norm(dim=0).tolist()
    return columns, rows, float(axes.det().abs()) / float(torch.linalg.cross(axes[:, 0], axes[:, 1]).norm())
