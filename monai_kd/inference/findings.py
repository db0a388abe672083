"""What was found in each file, as a table and as pictures."""

from __future__ import annotations

import csv
import logging
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys

from ..atomic import written_whole
from .inputs import InputFiles
from .masks import mask_path
from .overlay import draw_overlay
from .readers import read_image

__all__ = ["COLUMNS", "Findings", "measure"]

logger = logging.getLogger(__name__)

COLUMNS = (
    *("file", "status", "reason", "tumour", "slices", "slices_with_tumour", "largest_slice", "area_px", "area_mm2"),
    *("volume_mm3", "x0", "y0", "x1", "y1", "z0", "z1", "mean_probability", "highest_probability", "mask", "overlay"),
)
NO_SPACING, UNSUPPORTED = "spacing not known: no mm", "unsupported kind of file"


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


class Findings:
    """Write ``findings.csv`` and an overlay for each file; attach it to a `FileEvaluator`.

    The evaluator's post-processing leaves the mask under ``pred`` and the probability under ``probability``, both in
    the geometry of the file.

    Args:
        inputs: the images that are being segmented.
        overlays: draw ``<name>_overlay.png``.

    Raises:
        ValueError: at the end of the run, when no file could be segmented.
    """

    def __init__(self, inputs: InputFiles, overlays: bool = True) -> None:
        self.inputs, self.overlays = inputs, bool(overlays)
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _begin(self, _engine: Engine) -> None:
        self.rows = [{"file": file, "status": "skipped", "reason": UNSUPPORTED} for file in self.inputs.skipped]
        for file in self.inputs.skipped:
            logger.warning("%s: skipped, %s", file, UNSUPPORTED)

    def _add(self, engine: Engine) -> None:
        batch = engine.state.batch
        if isinstance(batch, dict):
            rows = [
                {"file": file, "status": "failed", "reason": reason}
                for file, reason in zip(batch["file"], batch["reason"], strict=True)
            ]
        else:
            rows = [self._row(item["file"], output) for item, output in zip(batch, engine.state.output, strict=True)]
        for row in rows:
            self.rows.append(row)
            done, level = engine.state.iteration, logging.WARNING if row["status"] == "failed" else logging.INFO
            logger.log(level, "[%d/%d] %s: %s", done, len(self.inputs.images), row["file"], _said(row))

    def _row(self, file: str, output: dict[str, torch.Tensor]) -> dict[str, Any]:
        mask, probability = (np.asarray(torch.as_tensor(output[key])[0].cpu()) for key in (Keys.PRED, "probability"))
        spacing = np.asarray(output[Keys.PRED].meta["spacing"], dtype=float)
        found = measure(mask, probability, spacing)
        unknown = bool(np.isnan(spacing[:2]).any())
        row = {"file": file, "status": "ok", "reason": NO_SPACING if unknown else "", **found}
        path = mask_path(self.inputs, file)
        row["mask"] = path.relative_to(self.inputs.output_dir).as_posix()
        if self.overlays:
            image = self.inputs.labelled(file)
            picture = self.inputs.output_dir / f"{image.name}_overlay.png"
            # Read once more, rather than kept: volumes would travel through the network's pipeline twice.
            draw_overlay(*read_image(image.paths), mask, probability, picture, title=f"{file}\n{_said(row)}")
            row["overlay"] = picture.relative_to(self.inputs.output_dir).as_posix()
        return row

    def _write(self) -> None:
        path = self.inputs.output_dir / "findings.csv"
        with written_whole(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(sorted(self.rows, key=lambda row: row["file"]))

    def _finish(self, _engine: Engine) -> None:
        self._write()
        count = {status: sum(row["status"] == status for row in self.rows) for status in ("ok", "failed", "skipped")}
        tumours = sum(row.get("tumour") == "yes" for row in self.rows)
        path = self.inputs.output_dir / "findings.csv"
        if count["ok"] == 0:
            raise ValueError(f"none of the {count['failed']} files could be segmented; {path} says why.")
        logger.info(
            "%d segmented, %d with a tumour; %d failed, %d skipped: %s",
            *(count["ok"], tumours, count["failed"], count["skipped"], path),
        )

    def _fail(self, _engine: Engine, error: BaseException) -> None:
        # What was found before a full disk, say, stays known.
        if self.rows:
            self._write()
        raise error


def _said(row: dict[str, Any]) -> str:
    if row["status"] != "ok":
        return f"FAILED, {row['reason']}"
    if row["tumour"] == "no":
        return f"no tumour found (highest probability {row['highest_probability']:.2f})"
    size = f"{row['area_mm2']:.0f} mm²" if "area_mm2" in row else f"{row['area_px']} pixels"
    if row["slices"] > 1:
        size += f" in slice {row['largest_slice']}, {row['slices_with_tumour']} of {row['slices']} slices"
    return f"tumour, {size}, mean probability {row['mean_probability']:.2f}"
