"""Evaluation of a segmentation."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose, LoadImaged
from monai.utils.enums import CommonKeys as Keys

from data_prep.text import printable

from ..data import in_plane_spacing, is_negative, read_datalist
from ..io import SliceReader
from ..io.plain import plain_tensor
from ..metrics import (
    class_columns,
    mask_patient_rows,
    mask_summary_table,
    masks_metrics,
    sizes_of,
    summarise_masks,
    write_rows,
)
from ..plots import OverlayPanel, plot_overlays, plot_scores
from ..transforms import SqueezeSliced, foreground_probabilities, separate_masks
from .presence import PresenceReport, Reader
from .report import EvaluationReport

__all__ = ["MaskReport"]

logger = logging.getLogger(__name__)


class MaskReport(EvaluationReport):
    """`EvaluationReport` of a segmentation: `monai_kd.metrics.masks_metrics` for every slice.

    Attach it to an evaluator whose output has masks in the geometry of the files: ``pred``, with the metadata of the
    image, and ``label``. Both are (1, H, W), a mask or the indices of several classes, or (C, H, W), a mask for each
    class; see `separate_masks`.

    With ``probability`` in the output too, (C, H, W) or (1 + C, H, W) with the background, presence scores and marks
    are measured, and wherever slices without a tumour are evaluated, `monai_kd.metrics.summarise_presence` is reported.

    Output files: ``slices.csv``, ``patients.csv``, ``dice.png``, ``overlays.png`` (the worst, the median and the best
    slices by Dice), ``metrics.json``; with slices without a tumour also ``roc.png`` and ``froc.png``, and with
    ``specificity`` ``operating_point.json``.

    Args:
        args, kwargs: as for `EvaluationReport`. The data list of ``dataset_dir`` has the pixel size of pictures.
        panels: number of slices to show of the worst, of the median, and of the best.
        mask_names: names of the segmented classes. With several, tables also have the columns ``<metric>_<class>``,
            ``metrics.json`` has ``masks``, and pictures have a colour for each class.
        presence: the presence score of the operating point, see `monai_kd.metrics.presence_score`.
        specificity: specificity for which the threshold of that score is chosen, see
            `monai_kd.metrics.choose_operating_point`; the ``operating_point`` is added to the ``settings.json`` beside
            ``checkpoint``. ``None``: none is chosen; nor is one, logged as a warning, where no threshold has it.
        checkpoint: the evaluated weights.
        operating_point: that of the weights; where slices have no tumour, what it gives on these slices is measured,
            unless a new one is chosen.
        reader: a classifier that is asked about each slice, see `PresenceReport`.
        of_classes: whether the masks are those of the classes of the data set, which then must be ``mask_names``.

    Raises:
        ValueError: the masks are of other classes than the data set has, or in another order; while running: a
            prediction and its label differ in size; or as `EvaluationReport`.
    """

    def __init__(
        self,
        *args: Any,
        panels: int = 4,
        mask_names: Sequence[str] = ("tumour",),
        presence: str = "top_k_mean",
        specificity: float | None = None,
        checkpoint: str | Path | None = None,
        operating_point: Mapping[str, Any] | None = None,
        reader: Reader | None = None,
        of_classes: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if of_classes:
            self.check_classes(mask_names)
        self.presence = PresenceReport(
            presence, specificity, checkpoint, self.bootstrap, self.seed, operating_point, reader
        )
        self.panels, self.mask_names = int(panels), list(mask_names)
        self.listed_spacing = read_datalist(self.dataset_dir, allow_outside=True).get("spacing")
        # Compressed prediction and truth of every slice: it is known only at the end which ones are shown.
        self._packed: list[tuple[_Packed, _Packed]] = []

    def begin(self) -> None:
        super().begin()
        self._packed = []
        self.presence.begin()

    def measure(self, output: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
        prediction, truth = output[Keys.PRED], output[Keys.LABEL]
        if prediction.shape[1:] != truth.shape[1:]:
            raise ValueError(
                f"{entry['image']} and {entry['label']} differ in size: {tuple(prediction.shape[1:])} and "
                f"{tuple(truth.shape[1:])}."
            )
        spacing = in_plane_spacing(prediction, entry["image"], self.listed_spacing)
        predicted, true = self.separate(prediction, truth)
        self.keep(predicted, true)
        measured = masks_metrics(predicted, true, spacing, self.mask_names)
        if (probability := output.get("probability")) is not None:
            foreground = foreground_probabilities(plain_tensor(probability), len(self.mask_names)).cpu()
            area = spacing[0] * spacing[1]
            seen = output.get(Keys.IMAGE)
            measured |= self.presence.measure(foreground, predicted.cpu(), true.cpu(), area, seen)
        return measured

    def separate(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Of each, one binary mask for each class."""
        return tuple(separate_masks(plain_tensor(each), len(self.mask_names)) for each in masks)

    def keep(self, predicted: torch.Tensor, true: torch.Tensor) -> None:
        """Keep the masks of a slice, (C, H, W), for the pictures."""
        self._packed.append((_Packed(predicted), _Packed(true)))

    def write(self) -> tuple[dict[str, Any], str, Sequence[str]]:
        summary = summarise_masks(self.rows, self.bootstrap, self.seed, self.mask_names, self.of)
        write_rows(self.rows, self.output_dir / f"{self.of}.csv")
        write_rows(mask_patient_rows(self.rows, self.mask_names, self.of), self.output_dir / "patients.csv")
        files = [f"{self.of}.csv", "patients.csv", *self._draw()]
        table = mask_summary_table(summary)
        if self.presence.marks:
            found, more, drawn = self.presence.write(self.rows, self.output_dir, self.title, self._measured_on())
            summary, table, files = {**summary, **found}, "\n\n".join(filter(None, (table, more))), files + drawn
        return summary, table, files

    def _measured_on(self) -> str:
        free = sum(row["truth_area_mm2"] == 0 for row in self.rows)
        listed = sum(map(is_negative, self.data))
        made = f", {free - listed} of them by taking the tumour out" if free > listed else ""
        return f"{self.title}: {len(self.rows) - free} slices with a tumour, {free} without{made}"

    def _draw(self) -> list[str]:
        """The names of the pictures."""
        ranked = sorted((row["dice"], number) for number, row in enumerate(self.rows) if row[sizes_of(row)[0]] > 0)
        item = self.of.removesuffix("s")
        if not ranked:
            logger.warning("no %s has a tumour: there is no Dice to draw.", item)
            return []
        plot_scores(self._groups(ranked), self.output_dir / "dice.png", f"Dice of a {item}", self.title, self.of)
        shown = [(f"{place}/{len(ranked)}", ranked[place - 1][1]) for place in _places(len(ranked), self.panels)]
        mean = np.mean([dice for dice, _ in ranked])
        plot_overlays(
            [self._panel(rank, number) for rank, number in shown],
            self.output_dir / "overlays.png",
            f"{self.title}: {_shown(len(ranked), self.panels)} {self.of} by Dice (mean {mean:.3f})",
        )
        return ["dice.png", "overlays.png"]

    def _groups(self, ranked: Sequence[tuple[float, int]]) -> dict[str, list[float]]:
        """Dice of all slices and by class: the class of the slice, or of the mask if several are segmented."""
        if columns := class_columns(self.mask_names):
            each = {name: [row[f"dice{ending}"] for row in self.rows] for name, ending in columns.items()}
            defined = {name: [dice for dice in values if dice is not None] for name, values in each.items()}
            return {"over the classes": [dice for dice, _ in ranked], **defined}
        groups: dict[str, list[float]] = {
            "all": [dice for dice, _ in ranked],
            **{name: [] for name in self.class_names},
        }
        for dice, number in ranked:
            groups.setdefault(self.rows[number]["class_name"], []).append(dice)
        return groups

    def picture(self, number: int) -> np.ndarray:
        """The image of a row, (H, W), on the grid of the kept masks."""
        named = {key: value for key, value in self.data[number].items() if key in (Keys.IMAGE, "slice")}
        load = LoadImaged(Keys.IMAGE, SliceReader, ensure_channel_first=True, constant=True, of_head=False)
        return np.asarray(Compose([load, SqueezeSliced(Keys.IMAGE)])(named)[Keys.IMAGE][0])

    def _panel(self, rank: str, number: int) -> OverlayPanel:
        row = self.rows[number]
        image = self.picture(number)
        prediction, truth = (packed.masks() for packed in self._packed[number])
        distance = "" if row["hd95_mm"] is None else f", HD95 {row['hd95_mm']:.1f} mm"
        title = f"{rank}  {printable(row['source'])}  {row['class_name']}\nDice {row['dice']:.2f}{distance}"
        return OverlayPanel(image, truth, prediction, title, self.mask_names)


class _Packed:
    """Binary masks of a slice, (C, H, W), compressed in memory."""

    def __init__(self, masks: torch.Tensor) -> None:
        self.shape = tuple(masks.shape)
        self.bits = zlib.compress(np.packbits(np.asarray(masks.cpu())).tobytes(), level=1)

    def masks(self) -> np.ndarray:
        """The masks: (H, W) for one class, (C, H, W) for several."""
        bits = np.frombuffer(zlib.decompress(self.bits), dtype=np.uint8)
        masks = np.unpackbits(bits, count=int(np.prod(self.shape))).reshape(self.shape)
        return masks[0] if len(masks) == 1 else masks


def _places(count: int, each: int) -> list[int]:
    """Ranks, from 1, of the first, the middle and the last ``each`` of ``count``; all ranks if there are few."""
    if count <= 3 * each:
        return list(range(1, count + 1))
    # With more than 3 · each, the three parts do not overlap.
    return [first + place for first in (1, (count - each) // 2 + 1, count - each + 1) for place in range(each)]


def _shown(count: int, each: int) -> str:
    return (
        f"the {each} worst, {each} median and {each} best of {count}"
        if count > 3 * each
        else f"from worst to best, all {count}"
    )
