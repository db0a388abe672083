"""What was found in each file, as a table and as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.utils.enums import CommonKeys as Keys

from ..io.readers import kind_of, read_image
from .dicom_seg import NoSegmentation, require_highdicom, write_dicom_seg
from .file_report import FileReport, printable
from .inputs import InputFiles, InputImage
from .masks import mask_path
from .overlay import draw_overlay

__all__ = ["COLUMNS", "Findings", "mask_and_probability", "measure", "telling_slice"]

COLUMNS = (
    *("file", "status", "reason", "tumour", "slices", "slices_with_tumour", "largest_slice", "area_px", "area_mm2"),
    *("volume_mm3", "x0", "y0", "x1", "y1", "z0", "z1", "mean_probability", "highest_probability", "mask", "overlay"),
    "dicom_seg",
)
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


def mask_and_probability(output: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Of what a segmentation's post-processing leaves: both (X, Y) or (X, Y, slices)."""
    mask, probability = (np.asarray(torch.as_tensor(output[key])[0].cpu()) for key in (Keys.PRED, "probability"))
    return mask, probability


def telling_slice(found: Mapping[str, Any], probability: np.ndarray) -> int:
    """The slice that speaks for a volume: with the largest area; without any tumour, with the highest probability.

    Args:
        found: what `measure` gives.
        probability: (X, Y) or (X, Y, slices).
    """
    if "largest_slice" in found:
        return found["largest_slice"]
    return int(probability.reshape(*probability.shape[:2], -1).max(axis=(0, 1)).argmax())


class Findings(FileReport):
    """`FileReport` of a segmentation: ``findings.csv``, and an overlay for each file.

    The evaluator's post-processing leaves the mask under ``pred`` and the probability under ``probability``, both in
    the geometry of the file.

    Args:
        inputs: the images that are being segmented.
        overlays: draw ``<name>_overlay.png``.
        dicom_seg: write ``<name>_seg.dcm`` for DICOM files with a tumour, see `write_dicom_seg`.
        algorithm: name of the network, for it.

    Raises:
        ImportError: ``dicom_seg`` is asked for, and highdicom is not installed.
    """

    table, done, columns = "findings.csv", "segmented", COLUMNS

    def __init__(
        self, inputs: InputFiles, overlays: bool = True, dicom_seg: bool = False, algorithm: str = "monai_kd"
    ) -> None:
        super().__init__(inputs)
        self.overlays, self.dicom_seg, self.algorithm = bool(overlays), bool(dicom_seg), algorithm
        if self.dicom_seg:
            require_highdicom()

    def rows_of(self, file: str, output: Mapping[str, Any]) -> list[dict[str, Any]]:
        mask, probability = mask_and_probability(output)
        spacing = np.asarray(output[Keys.PRED].meta["spacing"], dtype=float)
        found = measure(mask, probability, spacing)
        unknown = bool(np.isnan(spacing[:2]).any())
        reason = "; ".join(filter(None, [NO_SPACING if unknown else "", self.assumed(file)]))
        row = {"file": file, "status": "ok", "reason": reason, **found}
        row["mask"] = self.named(mask_path(self.inputs, file))
        image = self.inputs.labelled(file)
        if self.dicom_seg and mask.any() and kind_of(image.paths[0]) == "dicom":
            self._write_dicom_seg(mask, image, row)
        if self.overlays:
            picture = self.output(image, OVERLAY)
            # Read once more, rather than kept: volumes would travel through the network's pipeline twice.
            title = f"{printable(file)}\n{_said(row)}"
            draw_overlay(*read_image(image.paths), mask, probability, picture, title)
            row["overlay"] = self.named(picture)
        return [row]

    def _write_dicom_seg(self, mask: np.ndarray, image: InputImage, row: dict[str, Any]) -> None:
        path = self.output(image, DICOM_SEG)
        try:
            write_dicom_seg(mask, image.paths, path, self.algorithm)
        except NoSegmentation as error:
            row["reason"] = "; ".join(filter(None, [row["reason"], str(error)]))
        else:
            row["dicom_seg"] = self.named(path)

    def outputs(self, image: InputImage) -> Sequence[Path]:
        return [mask_path(self.inputs, image.label), self.output(image, OVERLAY), self.output(image, DICOM_SEG)]

    def said(self, rows: Sequence[Mapping[str, Any]]) -> str:
        return _said(rows[0])

    def summary(self) -> str:
        return f", {sum(row.get('tumour') == 'yes' for row in self.rows)} with a tumour"


def _said(row: Mapping[str, Any]) -> str:
    if row["tumour"] == "no":
        return f"no tumour found (highest probability {row['highest_probability']:.2f})"
    size = f"{row['area_mm2']:.0f} mm²" if "area_mm2" in row else f"{row['area_px']} pixels"
    if row["slices"] > 1:
        size += f" in slice {row['largest_slice']}, {row['slices_with_tumour']} of {row['slices']} slices"
    return f"tumour, {size}, mean probability {row['mean_probability']:.2f}"
