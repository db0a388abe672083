"""The segmentation of each file, as a table and as pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from monai.utils.enums import CommonKeys as Keys

from ..io.order import natural_order
from ..io.source import SourceImage
from ..io.table import write_table
from ..metrics import MOST_LESIONS, lesion_columns
from .dataset import SOURCE
from .dicom_seg import NoSegmentation, require_highdicom, write_dicom_seg
from .file_report import FileReport, printable
from .inputs import InputFiles, InputImage
from .masks import mask_path
from .measures import (
    Finding,
    finding_columns,
    finding_of,
    found_name,
    told_absence,
    told_classes,
    told_lesions,
    told_size,
)
from .overlay import draw_overlay, marks_of

__all__ = ["Findings", "write_lesions"]

logger = logging.getLogger(__name__)

LESIONS, OVERLAY, DICOM_SEG = "lesions.csv", "_overlay.png", "_seg.dcm"
TUMOUR = "tumour"
NO_SPACING = "spacing not known: no mm"


class Findings(FileReport):
    """`FileReport` of a segmentation: ``findings.csv``, ``lesions.csv``, and an overlay for each file.

    ``lesions.csv`` has a row for each lesion, see `monai_kd.metrics.measure_lesions`, with the ``file`` in front.

    The evaluator's post-processing returns the mask under ``pred`` and the probability under ``probability``, both in
    the geometry of the file, with the channels that `BundlePredictor` describes.

    Args:
        inputs: the images that are being segmented.
        overlays: draw ``<name>_overlay.png``.
        dicom_seg: write ``<name>_seg.dcm`` for DICOM files of heads with a tumour, see `write_dicom_seg`.
        algorithm: name of the network, for it.
        mask_names: of the classes that are segmented, see `finding_columns`.
        several: what lines of text call the masks of several classes together; that of one class has its own name.

    Raises:
        ImportError: ``dicom_seg`` is asked for, and highdicom is not installed.
    """

    table, more_tables, done = "findings.csv", (LESIONS,), "segmented"

    def __init__(
        self,
        inputs: InputFiles,
        overlays: bool = True,
        dicom_seg: bool = False,
        algorithm: str = "monai_kd",
        mask_names: Sequence[str] = ("tumour",),
        several: str = TUMOUR,
    ) -> None:
        super().__init__(inputs)
        self.mask_names, self.lesions = list(mask_names), dict[str, list[dict[str, Any]]]()
        self.finds = found_name(self.mask_names, several)
        self.overlays, self.dicom_seg, self.algorithm = bool(overlays), bool(dicom_seg), algorithm
        if self.dicom_seg:
            require_highdicom()

    @property
    def columns(self) -> Sequence[str]:
        return finding_columns(self.mask_names)

    def rows_of(self, item: Mapping[str, Any], output: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [self.row_of(item, output, finding_of(output, self.mask_names, item[SOURCE].warnings))]

    def row_of(self, item: Mapping[str, Any], output: Mapping[str, Any], finding: Finding) -> dict[str, Any]:
        """The row of an image; its overlay and DICOM segmentation are written, and its lesions are kept.

        Args:
            item: of `ReadableDataset`.
            output: of the segmentation.
            finding: what `finding_of` measured in it.
        """
        file, source = item["file"], item[SOURCE]
        masks, probabilities = finding.masks, finding.probabilities
        spacing = np.asarray(output[Keys.PRED].meta["spacing"], dtype=float)
        unknown = bool(np.isnan(spacing[:2]).any())
        reason = "; ".join(filter(None, [NO_SPACING if unknown else "", source.assumed]))
        row = {"file": file, "status": "ok", "reason": reason, **finding.found}
        row["mask"] = self.named(mask_path(self.inputs, file))
        image = self.inputs.labelled(file)
        shown = masks[0] if len(masks) == 1 else masks
        if self.dicom_seg and masks.any() and source.kind == "dicom":
            self._write_dicom_seg(shown, source, image, row)
        if self.overlays:
            picture = self.output(image, OVERLAY)
            title = f"{printable(file)}\n{self.summary_line([row])}"
            drawn = source.first_channel, source.meta(), shown, probabilities.max(axis=0), picture, title
            draw = partial(draw_overlay, *drawn, mask_names=self.mask_names, marks=marks_of(source))
            if masks[0].ndim == 2 or masks.shape[-1] == 1:
                self.meanwhile(draw)
            else:
                # Its arrays would be in memory together with those of the next volume.
                draw()
            row["overlay"] = self.named(picture)
        self.lesions[file] = finding.lesions
        if (count := row["lesion_count"]) > MOST_LESIONS:
            logger.warning("%s: %d lesions; the largest %d are measured.", printable(file), count, MOST_LESIONS)
        return row

    def _begin(self, engine: Engine) -> None:
        super()._begin(engine)
        self.lesions = {}

    def write(self) -> None:
        # Of a file whose mask could not be written, they were measured, and are none of its row.
        used = {row["file"] for row in self.rows if row["status"] == "ok"}
        lesions = {file: found for file, found in self.lesions.items() if file in used}
        write_lesions(lesions, self.mask_names, self.inputs.output_dir / LESIONS)
        # The table last: by it, all is done.
        super().write()

    def _write_dicom_seg(self, masks: np.ndarray, source: SourceImage, image: InputImage, row: dict[str, Any]) -> None:
        path = self.output(image, DICOM_SEG)
        try:
            if not source.of_head:
                raise NoSegmentation("no DICOM SEG: its codes are those of tumours of the brain")
            write_dicom_seg(masks, source.datasets, path, self.algorithm, self.mask_names)
        except NoSegmentation as error:
            row["reason"] = "; ".join(filter(None, [row["reason"], str(error)]))
        else:
            row["dicom_seg"] = self.named(path)

    def outputs(self, image: InputImage) -> Sequence[Path]:
        return [mask_path(self.inputs, image.label), self.output(image, OVERLAY), self.output(image, DICOM_SEG)]

    def summary_line(self, rows: Sequence[Mapping[str, Any]]) -> str:
        return _summary_line(rows[0], self.mask_names, self.finds)

    def summary(self) -> str:
        with_any = sum(row.get("tumour") == "yes" for row in self.rows)
        return f", {with_any} with {'a ' if self.finds == TUMOUR else ''}{self.finds}"


def write_lesions(
    lesions: Mapping[str, Sequence[Mapping[str, Any]]], mask_names: Sequence[str], path: str | Path
) -> None:
    """Write a CSV table with a row for each lesion of each file, in the order of the files."""
    rows = [{"file": file, **lesion} for file in sorted(lesions, key=natural_order) for lesion in lesions[file]]
    write_table(rows, ["file", *lesion_columns(mask_names)], path)


def _summary_line(row: Mapping[str, Any], mask_names: Sequence[str], finds: str) -> str:
    if row["tumour"] != "yes":
        return told_absence(row, finds)
    size = told_size(row)
    if row["slices"] > 1:
        size += f" in slice {row['largest_slice'] + 1} of {row['slices']}, {row['slices_with_tumour']} with {finds}"
    size += told_lesions(row)
    if len(mask_names) > 1:
        size += f" ({', '.join(f'{name} {own}' for name, own in told_classes(row, mask_names).items())})"
    return f"{finds}, {size}, mean probability {row['mean_probability']:.2f}"
