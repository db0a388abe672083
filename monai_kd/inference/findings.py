"""The segmentation of each file, as a table and as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils.enums import CommonKeys as Keys

from ..io.source import SourceImage
from ..transforms import foreground_probabilities, separate_masks
from .dataset import SOURCE
from .dicom_seg import NoSegmentation, require_highdicom, write_dicom_seg
from .file_report import FileReport, printable
from .inputs import InputFiles, InputImage
from .masks import mask_path
from .overlay import draw_overlay, marks_of

__all__ = [
    "COLUMNS",
    "Findings",
    "finding_columns",
    "masks_and_probabilities",
    "measure",
    "measure_classes",
    "telling_slice",
    "told_size",
]

COLUMNS = (
    *("file", "status", "reason", "tumour", "slices", "slices_with_tumour", "largest_slice", "area_px", "area_mm2"),
    *("volume_mm3", "x0", "y0", "x1", "y1", "z0", "z1", "mean_probability", "highest_probability", "mask", "overlay"),
    "dicom_seg",
)
# Columns of `measure` for each class; the number of slices is that of the file.
OF_A_CLASS = (*COLUMNS[3:4], *COLUMNS[5 : COLUMNS.index("mask")])
OVERLAY, DICOM_SEG = "_overlay.png", "_seg.dcm"
NO_SPACING = "spacing not known: no mm"


def measure(mask: np.ndarray, probability: np.ndarray, spacing: np.ndarray) -> dict[str, Any]:
    """Numbers for one mask.

    Args:
        mask: (X, Y) or (X, Y, Z), 0 or 1.
        probability: of the same shape, 0 … 1.
        spacing: (3,), mm; NaN where it is not known.

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
        found["area_mm2"] = round(float(areas[largest]) * pixel, 2)
        if volume.shape[2] > 1 and not np.isnan(spacing[2]):
            found["volume_mm3"] = round(float(areas.sum()) * pixel * float(spacing[2]), 1)
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
    masks: np.ndarray, probabilities: np.ndarray, spacing: np.ndarray, mask_names: Sequence[str]
) -> dict[str, Any]:
    """`measure` of the masks of all classes together, and of each.

    Args:
        masks: (C, X, Y) or (C, X, Y, Z), 0 or 1.
        probabilities: of the same shape.
        spacing: as for `measure`.
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
        return measure(masks[0], probabilities[0], spacing)
    found = measure(np.asarray(masks.any(axis=0)), probabilities.max(axis=0), spacing)
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    if any(sizes):
        found["class"] = mask_names[int(np.argmax(sizes))]
    for name, mask, probability in zip(mask_names, masks, probabilities, strict=True):
        own = measure(mask, probability, spacing)
        found |= {f"{column}_{name}": own[column] for column in OF_A_CLASS if column in own}
    return found


def masks_and_probabilities(output: Mapping[str, Any], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """From the output of a segmentation's post-processing: both (C, X, Y) or (C, X, Y, slices), bool and float."""
    mask, probability = (np.asarray(torch.as_tensor(output[key]).cpu()) for key in (Keys.PRED, "probability"))
    return separate_masks(mask, classes), foreground_probabilities(probability, classes)


def telling_slice(found: Mapping[str, Any], probability: np.ndarray) -> int:
    """The slice that represents a volume: with the largest area; without any tumour, with the highest probability.

    Args:
        found: the result of `measure`.
        probability: (X, Y) or (X, Y, slices).
    """
    if "largest_slice" in found:
        return found["largest_slice"]
    return int(probability.reshape(*probability.shape[:2], -1).max(axis=(0, 1)).argmax())


class Findings(FileReport):
    """`FileReport` of a segmentation: ``findings.csv``, and an overlay for each file.

    The evaluator's post-processing returns the mask under ``pred`` and the probability under ``probability``, both in
    the geometry of the file, with the channels that `BundlePredictor` describes.

    Args:
        inputs: the images that are being segmented.
        overlays: draw ``<name>_overlay.png``.
        dicom_seg: write ``<name>_seg.dcm`` for DICOM files with a tumour, see `write_dicom_seg`.
        algorithm: name of the network, for it.
        mask_names: of the classes that are segmented, see `finding_columns`.

    Raises:
        ImportError: ``dicom_seg`` is asked for, and highdicom is not installed.
    """

    table, done = "findings.csv", "segmented"

    def __init__(
        self,
        inputs: InputFiles,
        overlays: bool = True,
        dicom_seg: bool = False,
        algorithm: str = "monai_kd",
        mask_names: Sequence[str] = ("tumour",),
    ) -> None:
        super().__init__(inputs)
        self.mask_names = list(mask_names)
        self.overlays, self.dicom_seg, self.algorithm = bool(overlays), bool(dicom_seg), algorithm
        if self.dicom_seg:
            require_highdicom()

    @property
    def columns(self) -> Sequence[str]:
        return finding_columns(self.mask_names)

    def rows_of(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> list[dict[str, Any]]:
        file, source = item["file"], item[SOURCE]
        masks, probabilities = masks_and_probabilities(output, len(self.mask_names))
        spacing = np.asarray(output[Keys.PRED].meta["spacing"], dtype=float)
        found = measure_classes(masks, probabilities, spacing, self.mask_names)
        unknown = bool(np.isnan(spacing[:2]).any())
        reason = "; ".join(filter(None, [NO_SPACING if unknown else "", source.assumed]))
        row = {"file": file, "status": "ok", "reason": reason, **found}
        row["mask"] = self.named(mask_path(self.inputs, file))
        image = self.inputs.labelled(file)
        shown = masks[0] if len(masks) == 1 else masks
        if self.dicom_seg and masks.any() and source.kind == "dicom":
            self._write_dicom_seg(shown, source, image, row)
        if self.overlays:
            picture = self.output(image, OVERLAY)
            title = f"{printable(file)}\n{self.summary_line([row])}"
            drawn = source.first_channel, source.meta(), shown, probabilities.max(axis=0), picture, title
            draw_overlay(*drawn, mask_names=self.mask_names, marks=marks_of(source))
            row["overlay"] = self.named(picture)
        return [row]

    def _write_dicom_seg(self, masks: np.ndarray, source: SourceImage, image: InputImage, row: dict[str, Any]) -> None:
        path = self.output(image, DICOM_SEG)
        try:
            write_dicom_seg(masks, source.datasets, path, self.algorithm, self.mask_names)
        except NoSegmentation as error:
            row["reason"] = "; ".join(filter(None, [row["reason"], str(error)]))
        else:
            row["dicom_seg"] = self.named(path)

    def outputs(self, image: InputImage) -> Sequence[Path]:
        return [mask_path(self.inputs, image.label), self.output(image, OVERLAY), self.output(image, DICOM_SEG)]

    def summary_line(self, rows: Sequence[Mapping[str, Any]]) -> str:
        return _summary_line(rows[0], self.mask_names)

    def summary(self) -> str:
        return f", {sum(row.get('tumour') == 'yes' for row in self.rows)} with a tumour"


def told_size(row: Mapping[str, Any], ending: str = "") -> str:
    """The largest area of a file in mm², or in pixels where their size is not known; of the class with the ending."""
    area = row.get(f"area_mm2{ending}")
    return f"{row[f'area_px{ending}']} pixels" if area is None else f"{area:.0f} mm²"


def _summary_line(row: Mapping[str, Any], mask_names: Sequence[str]) -> str:
    if row["tumour"] == "no":
        return f"no tumour found (highest probability {row['highest_probability']:.2f})"
    size = told_size(row)
    if row["slices"] > 1:
        size += f" in slice {row['largest_slice'] + 1} of {row['slices']}, {row['slices_with_tumour']} with tumour"
    if len(mask_names) > 1:
        present = [name for name in mask_names if row[f"tumour_{name}"] == "yes"]
        sizes = [f"{name} {told_size(row, f'_{name}')}" for name in present]
        size += f" ({', '.join(sizes)})"
    return f"tumour, {size}, mean probability {row['mean_probability']:.2f}"
