"""Lesions: connected areas over the slices of a volume, and what they measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from skimage.measure import label, regionprops

from .diameters import in_plane_diameters
from .slice_stack import SliceStack

__all__ = ["LESION_COLUMNS", "MOST_LESIONS", "label_lesions", "lesion_columns", "lesion_extents", "measure_lesions"]

MOST_LESIONS = 100  # that are measured, the largest first

LESION_COLUMNS: dict[str, str] = {
    "lesion": "",
    "volume_ml": "ml",
    "longest_diameter_mm": "mm",
    "perpendicular_diameter_mm": "mm",
    "diameter_product_mm2": "mm²",
    "diameter_slice": "",
    "mean_probability": "",
    "highest_probability": "",
    "pixels": "",
    "slices": "",
    **dict.fromkeys(("x0", "y0", "z0", "x1", "y1", "z1"), ""),
    **dict.fromkeys(("extent_x_mm", "extent_y_mm", "extent_z_mm"), "mm"),
    **dict.fromkeys(("centre_x", "centre_y", "centre_z"), ""),
    **dict.fromkeys(("centre_r_mm", "centre_a_mm", "centre_s_mm"), "mm"),
}
"""Name of each value of `measure_lesions` and its unit, in the order of every table."""


def lesion_columns(mask_names: Sequence[str]) -> list[str]:
    """`LESION_COLUMNS`, and for several classes ``class`` and the volume of each.

    Example:
        >>> lesion_columns(["glioma", "oedema"])[-3:]
        ['class', 'volume_ml_glioma', 'volume_ml_oedema']
    """
    classes = ["class", *(f"volume_ml_{name}" for name in mask_names)] if len(mask_names) > 1 else []
    return [*LESION_COLUMNS, *classes]


def label_lesions(mask: np.ndarray, linked: np.ndarray) -> np.ndarray:
    """Number the connected areas of a mask over its slices.

    Pixels that touch, by a corner too, are connected, in a slice and from one slice to the next, if these are linked.

    Args:
        mask: of all classes together.
        linked: as of `SliceStack`.

    Shape:
        - mask and result: (X, Y, Z)
        - linked: (Z - 1,)

    Returns:
        0 outside, and the lesions from 1.

    Example:
        >>> label_lesions(np.ones((1, 1, 4)), np.array([True, False, True]))
        array([[[1, 1, 2, 2]]], dtype=int32)
    """
    parts, count = [], 0
    for part in np.split(np.asarray(mask) != 0, np.flatnonzero(~np.asarray(linked, dtype=bool)) + 1, axis=2):
        numbers, found = label(part, connectivity=3, return_num=True)
        parts.append(np.where(numbers > 0, numbers + count, 0))
        count += found
    return np.concatenate(parts, axis=2)


def lesion_extents(lesions: np.ndarray, stack: SliceStack) -> np.ndarray:
    """How far each lesion reaches along the slices: the sum of the thicknesses of its slices, in mm.

    Args:
        lesions: of `label_lesions`, (X, Y, Z).
        stack: of its slices.

    Returns:
        (lesions + 1,), of lesion number n at index n, and 0 at index 0; NaN where the thickness is not known.
    """
    extents = np.zeros(int(lesions.max()) + 1)
    for number in range(lesions.shape[2]):
        present = np.unique(lesions[..., number])
        extents[present[present > 0]] += stack.thickness[number]
    return extents


def measure_lesions(
    masks: np.ndarray, probabilities: np.ndarray, stack: SliceStack, mask_names: Sequence[str] = ("tumour",)
) -> tuple[list[dict[str, Any]], int]:
    """Numbers for each lesion: a connected area of pixels of any class over the slices, see `label_lesions`.

    With A(z) the area of its pixels on slice z and t(z) the slice's thickness, a lesion has the volume Σ A(z) t(z).

    Args:
        masks: 0 or 1, a mask for each class.
        probabilities: of the classes.
        stack: of the slices, Z of them.
        mask_names: C names.

    Shape:
        - masks and probabilities: (C, X, Y) or (C, X, Y, Z)

    Returns:
        The lesions, the largest first, at most `MOST_LESIONS`, and how many there are. Of each the values of
        `lesion_columns`: ``volume_ml`` of volumes of several slices; the diameters of `in_plane_diameters` on the slice
        where the longest one is, ``diameter_slice``, of one connected area on it, and their product; mean and highest
        probability of any class within the lesion; the number of its pixels and slices; its first and last column, row
        and slice ``x0`` … ``z1`` (from 0, both inside); its size along the three axes of the file; its centre of
        gravity in columns, rows and slices, and in RAS+. Several classes: ``class`` of most pixels, and the volume of
        each. Millimetres are left out where the size of a pixel is not known.

    Example:
        >>> meta = {"original_affine": np.diag([0.5, 0.5, 6.0, 1.0]), "spacing": np.array([0.5, 0.5, 6.0])}
        >>> (lesion,), _ = measure_lesions(np.ones((1, 20, 10, 3)), np.ones((1, 20, 10, 3)), SliceStack.of(meta, 3))
        >>> lesion["volume_ml"], lesion["extent_z_mm"], lesion["centre_s_mm"]
        (0.9, 18.0, 6.0)
    """
    masks, probabilities = (each.reshape(*each.shape[:3], -1) for each in (masks != 0, probabilities))
    lesions, probability = label_lesions(np.any(masks, axis=0), stack.linked), probabilities.max(axis=0)
    regions = sorted(regionprops(lesions), key=lambda region: -_amount(region.image, region.bbox[2], stack))
    measured = []
    for number, region in enumerate(regions[:MOST_LESIONS], 1):
        within = probability[region.slice][region.image]
        x0, y0, z0, x1, y1, z1 = region.bbox
        own = {
            "lesion": number,
            "mean_probability": round(float(within.mean()), 4),
            "highest_probability": round(float(within.max()), 4),
            "pixels": int(region.area),
            "slices": int(region.image.any(axis=(0, 1)).sum()),
            **{"x0": x0, "y0": y0, "z0": z0, "x1": x1 - 1, "y1": y1 - 1, "z1": z1 - 1},
            **{f"centre_{axis}": round(float(value), 1) for axis, value in zip("xyz", region.centroid, strict=True)},
        }
        if stack.in_mm:
            own |= _millimetres(region, stack)
        if len(mask_names) > 1:
            box = (slice(None), *region.slice)
            own |= _of_classes(masks[box] & region.image, z0, stack, mask_names)
        measured.append(own)
    return measured, len(regions)


def _amount(image: np.ndarray, first: int, stack: SliceStack) -> float:
    """Volume of a lesion in mm³, or a number that orders lesions alike where millimetres are not known."""
    thickness = stack.thickness[first : first + image.shape[2]]
    areas = image.sum(axis=(0, 1)) * stack.pixel_mm2
    return float(areas @ np.where(np.isnan(thickness), 1, thickness))


def _volume_ml(image: np.ndarray, first: int, stack: SliceStack) -> dict[str, float]:
    known = stack.in_mm and len(stack.thickness) > 1 and not np.isnan(stack.thickness).any()
    return {"volume_ml": round(_amount(image, first, stack) / 1000, 3)} if known else {}


def _of_classes(masks: np.ndarray, first: int, stack: SliceStack, mask_names: Sequence[str]) -> dict[str, Any]:
    own: dict[str, Any] = {"class": mask_names[int(np.argmax(masks.sum(axis=(1, 2, 3))))]}
    for name, mask in zip(mask_names, masks, strict=True):
        own |= {f"{column}_{name}": value for column, value in _volume_ml(mask, first, stack).items()}
    return own


def _millimetres(region: Any, stack: SliceStack) -> dict[str, Any]:
    first, (across, down, _) = region.bbox[2], region.image.shape
    columns, rows = np.linalg.norm(stack.affine[:3, :2], axis=0)
    longest, perpendicular, where = max(
        (*in_plane_diameters(area.image, stack.in_plane), first + number)
        for number in range(region.image.shape[2])
        for area in regionprops(label(region.image[..., number], connectivity=2))
    )
    found = {
        **_volume_ml(region.image, first, stack),
        "longest_diameter_mm": round(longest, 1),
        "perpendicular_diameter_mm": round(perpendicular, 1),
        "diameter_product_mm2": round(longest * perpendicular, 1),
        "diameter_slice": where,
        "extent_x_mm": round(float(across * columns), 1),
        "extent_y_mm": round(float(down * rows), 1),
    }
    thick = float(stack.thickness[first : first + region.image.shape[2]].sum())
    if not np.isnan(thick):
        centre = stack.point(np.asarray(region.centroid))
        found["extent_z_mm"] = round(thick, 1)
        found |= {f"centre_{axis}_mm": round(float(value), 1) for axis, value in zip("ras", centre, strict=True)}
    return found
