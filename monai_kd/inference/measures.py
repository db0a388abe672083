"""What a segmentation found in an image, in numbers, for every program that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.utils.enums import CommonKeys as Keys

from ..metrics import SliceStack, measure_lesions
from ..transforms import foreground_probabilities, separate_masks
from .examination import NOT_JUDGED, examined

__all__ = [
    "COLUMNS",
    "Finding",
    "finding_columns",
    "finding_of",
    "found_name",
    "masks_and_probabilities",
    "measure",
    "measure_classes",
    "telling_slice",
    "told_absence",
    "told_lesions",
    "told_size",
]

COLUMNS = (
    *("file", "status", "reason", "tumour", "slices", "slices_with_tumour", "largest_slice", "area_px", "area_mm2"),
    *("volume_mm3", "x0", "y0", "x1", "y1", "z0", "z1", "mean_probability", "highest_probability", "mask", "overlay"),
    *(
        "dicom_seg",
        "presence_score",
        "presence_threshold",
        "lesion_count",
        "dropped_marks",
        "feature_distance",
        "warning",
    ),
)
# Columns of `measure` for each class; the number of slices is that of the file.
OF_A_CLASS = (*COLUMNS[3:4], *COLUMNS[5 : COLUMNS.index("mask")])


def measure(
    mask: np.ndarray,
    probability: np.ndarray,
    spacing: np.ndarray,
    thickness: np.ndarray | None = None,
    pixel_mm2: float | None = None,
) -> dict[str, Any]:
    """Numbers for one mask.

    Args:
        mask: (X, Y) or (X, Y, Z), 0 or 1.
        probability: of the same shape, 0 … 1.
        spacing: (3,), mm; NaN where it is not known.
        thickness: (Z,), mm that each slice stands for; ``None``: the third spacing for each.
        pixel_mm2: area of a pixel; ``None``: its columns and rows are at right angles.

    Returns:
        ``tumour`` (yes or no), ``slices``, ``slices_with_tumour``, ``highest_probability``; and with a tumour
        ``largest_slice`` (from 0), ``area_px`` and ``area_mm2`` of that slice, ``volume_mm3`` (when there are several
        slices), the first and last column, row and slice of the tumour ``x0`` … ``z1`` (from 0, both inside), and
        ``mean_probability`` within the mask. Millimetres are left out where the spacing is not known.

    Example:
        >>> found = measure(np.eye(4), np.full((4, 4), 0.75), np.array([0.5, 0.5, 6.0]))
        >>> found["area_mm2"], found["x1"], found["mean_probability"]
        (1.0, 3, 0.75)
    """
    volume = mask.reshape(*mask.shape[:2], -1) > 0
    areas = volume.sum(axis=(0, 1))
    found: dict[str, Any] = {
        "tumour": "yes" if volume.any() else "no",
        "slices": volume.shape[2],
        "slices_with_tumour": int(np.count_nonzero(areas)),
        "highest_probability": round(float(probability.max()), 4),
    }
    if not volume.any():
        return found
    largest = int(areas.argmax())
    found |= {"largest_slice": largest, "area_px": int(areas[largest])}
    pixel = float(spacing[0] * spacing[1])
    if not np.isnan(pixel):
        pixel = pixel if pixel_mm2 is None else pixel_mm2
        found["area_mm2"] = round(float(areas[largest]) * pixel, 2)
        if volume.shape[2] > 1 and not np.isnan(spacing[2]):
            length = areas.sum() * spacing[2] if thickness is None else areas @ thickness
            found["volume_mm3"] = round(float(length) * pixel, 1)
    for axis, name in enumerate("xyz"):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(volume.any(axis=others))
        found |= {f"{name}0": int(inside[0]), f"{name}1": int(inside[-1])}
    found["mean_probability"] = round(float(probability.reshape(volume.shape)[volume].mean()), 4)
    return found


def finding_columns(mask_names: Sequence[str]) -> list[str]:
    """Columns of ``findings.csv``: `COLUMNS`, and for several classes ``class`` and ``<column>_<class>`` of each.

    Example:
        >>> finding_columns(["glioma", "oedema"])[len(COLUMNS) :][:3]
        ['class', 'tumour_glioma', 'slices_with_tumour_glioma']
    """
    if len(mask_names) == 1:
        return list(COLUMNS)
    return [*COLUMNS, "class", *(f"{column}_{name}" for name in mask_names for column in OF_A_CLASS)]


def measure_classes(
    masks: np.ndarray,
    probabilities: np.ndarray,
    spacing: np.ndarray,
    mask_names: Sequence[str],
    thickness: np.ndarray | None = None,
    pixel_mm2: float | None = None,
) -> dict[str, Any]:
    """`measure` of the masks of all classes together, and of each.

    Args:
        masks: (C, X, Y) or (C, X, Y, Z), 0 or 1.
        probabilities: of the same shape.
        spacing, thickness, pixel_mm2: as for `measure`.
        mask_names: C names.

    Returns:
        For one class, the result of `measure`. For several, its result for the pixels of any class, with the highest
        probability of any; ``class``, the one with the most pixels, if there are any; and ``<name>_<class>`` for the
        results of each class, but for ``slices``.

    Example:
        >>> found = measure_classes(np.eye(2)[:, None], np.eye(2)[:, None], np.ones(3), ["glioma", "oedema"])
        >>> found["area_px"], found["area_px_glioma"], found["class"]
        (2, 1, 'glioma')
    """
    if len(mask_names) == 1:
        return measure(masks[0], probabilities[0], spacing, thickness, pixel_mm2)
    found = measure(np.asarray(masks.any(axis=0)), probabilities.max(axis=0), spacing, thickness, pixel_mm2)
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    if any(sizes):
        found["class"] = mask_names[int(np.argmax(sizes))]
    for name, mask, probability in zip(mask_names, masks, probabilities, strict=True):
        own = measure(mask, probability, spacing, thickness, pixel_mm2)
        found |= {f"{column}_{name}": own[column] for column in OF_A_CLASS if column in own}
    return found


def masks_and_probabilities(output: Mapping[str, Any], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """From the output of a segmentation's post-processing: both (C, X, Y) or (C, X, Y, slices), bool and float."""
    mask, probability = (np.asarray(torch.as_tensor(output[key]).cpu()) for key in (Keys.PRED, "probability"))
    return separate_masks(mask, classes), foreground_probabilities(probability, classes)


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found in one image.

    Attributes:
        found: the values of `finding_columns`, apart from files and reasons.
        lesions: those of `monai_kd.metrics.measure_lesions`, the largest first.
        masks, probabilities: of the classes, (C, X, Y) or (C, X, Y, slices), bool and float.
    """

    found: dict[str, Any]
    lesions: list[dict[str, Any]]
    masks: np.ndarray
    probabilities: np.ndarray


def finding_of(output: Mapping[str, Any], mask_names: Sequence[str], warnings: Sequence[str] = ()) -> Finding:
    """Measure the output of a segmentation's post-processing, which has applied the rules of the config.

    Args:
        output: as `BundlePredictor` returns it; ``pred`` has the metadata of `read_image`.
        mask_names: of the classes.
        warnings: of the input, see `SourceImage`.
    """
    masks, probabilities = masks_and_probabilities(output, len(mask_names))
    meta = output[Keys.PRED].meta
    slices = int(np.prod(masks.shape[3:]))
    stack = SliceStack.of(meta, slices)
    spacing = np.asarray(meta["spacing"], dtype=float)
    found = measure_classes(masks, probabilities, spacing, mask_names, stack.thickness, stack.pixel_mm2)
    lesions, count = measure_lesions(masks, probabilities, stack, mask_names)
    examination, judged = examined(output, warnings)
    if not judged:
        found |= {name: NOT_JUDGED for name in found if name == "tumour" or name.startswith("tumour_")}
    found |= {**examination, "lesion_count": count}
    return Finding(found, lesions, masks, probabilities)


def telling_slice(found: Mapping[str, Any], probability: np.ndarray) -> int:
    """The slice that represents a volume: with the largest area; without any tumour, with the highest probability.

    Args:
        found: the result of `measure`.
        probability: (X, Y) or (X, Y, slices).
    """
    if "largest_slice" in found:
        return found["largest_slice"]
    return int(probability.reshape(*probability.shape[:2], -1).max(axis=(0, 1)).argmax())


def told_classes(row: Mapping[str, Any], mask_names: Sequence[str]) -> dict[str, str]:
    """The size of each class that was found, as text, by its name; nothing for a single mask."""
    return {name: told_size(row, f"_{name}") for name in mask_names if row.get(f"tumour_{name}") == "yes"}


def told_lesions(row: Mapping[str, Any]) -> str:
    """How many lesions there are, for a line of text; nothing for a single one."""
    return f", {row['lesion_count']} lesions" if row.get("lesion_count", 1) > 1 else ""


def found_name(mask_names: Sequence[str], several: str = "tumour") -> str:
    """What lines of text call that which a segmentation marks: the name of its only mask, or ``several``."""
    return mask_names[0] if len(mask_names) == 1 else several


def told_absence(row: Mapping[str, Any], finds: str = "tumour") -> str:
    """That nothing was found, with the score that decides, where there is a threshold; or why it was not looked for."""
    if row["tumour"] == NOT_JUDGED:
        return f"{NOT_JUDGED}: {row['warning']}"
    if "presence_threshold" not in row:
        return f"no {finds} found (highest probability {row['highest_probability']:.2f})"
    score, threshold = row["presence_score"], row["presence_threshold"]
    return f"no {finds} found (presence score {score:.3f}, threshold {threshold:.3f})"


def told_size(row: Mapping[str, Any], ending: str = "") -> str:
    """The largest area of a file in mm², or in pixels where their size is not known; of the class with the ending."""
    area = row.get(f"area_mm2{ending}")
    return f"{row[f'area_px{ending}']} pixels" if area is None else f"{area:.0f} mm²"
