"""Metrics of every predicted mask."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import AsDiscreted, Compose, LoadImaged
from monai.utils.enums import CommonKeys as Keys

from data_prep.text import printable

from ..data import in_plane_spacing, read_datalist
from ..io import SliceReader
from ..metrics import mask_metrics, patient_rows, summarise, summary_table, write_rows
from ..plots import OverlayPanel, plot_overlays, plot_scores
from ..transforms import SameGridd, SqueezeSliced
from .report import EvaluationReport

__all__ = ["MaskReport"]

logger = logging.getLogger(__name__)


class MaskReport(EvaluationReport):
    """`EvaluationReport` of a segmentation: `monai_kd.metrics.mask_metrics` for every slice.

    Attach it to an evaluator whose post-processing leaves masks in the geometry of the files: ``pred``, with the
    metadata of the image, and ``label``, both (1, H, W).

    Written: ``slices.csv``, ``patients.csv``, ``dice.png``, ``overlays.png`` (the worst, the median and the best slices
    by Dice), ``metrics.json``.

    Args:
        args, kwargs: as for `EvaluationReport`; ``dataset_dir`` also tells the size of a pixel of pictures.
        panels: slices to show of the worst, the median and the best each.

    Raises:
        ValueError: while running: a prediction and its label differ in size; or as `EvaluationReport`.
    """

    def __init__(self, *args: Any, panels: int = 4, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.panels = int(panels)
        self.listed_spacing = read_datalist(self.dataset_dir, allow_outside=True).get("spacing")
        # One bit a pixel: which slices are to be shown is known at the end.
        self._packed: list[np.ndarray] = []

    def begin(self) -> None:
        super().begin()
        self._packed = []

    def measure(self, output: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
        prediction, truth = output[Keys.PRED], output[Keys.LABEL]
        if prediction.shape != truth.shape:
            raise ValueError(
                f"{entry['image']} and {entry['label']} differ in size: {tuple(prediction.shape[1:])} and "
                f"{tuple(truth.shape[1:])}."
            )
        spacing = in_plane_spacing(prediction, entry["image"], self.listed_spacing)
        self._packed.append(np.packbits(np.asarray(prediction[0]) != 0))
        return mask_metrics(prediction[0], truth[0], spacing)

    def write(self) -> tuple[dict[str, Any], str, Sequence[str]]:
        summary = summarise(self.rows, self.bootstrap, self.seed)
        write_rows(self.rows, self.output_dir / "slices.csv")
        write_rows(patient_rows(self.rows), self.output_dir / "patients.csv")
        self._draw()
        return summary, summary_table(summary), ("slices.csv", "patients.csv", "dice.png", "overlays.png")

    def _draw(self) -> None:
        ranked = sorted((row["dice"], number) for number, row in enumerate(self.rows) if row["dice"] is not None)
        if not ranked:
            logger.warning("no slice has a tumour, true or predicted: there is no Dice to draw.")
            return
        groups: dict[str, list[float]] = {
            "all": [dice for dice, _ in ranked],
            **{name: [] for name in self.class_names},
        }
        for dice, number in ranked:
            groups.setdefault(self.rows[number]["class_name"], []).append(dice)
        plot_scores(groups, self.output_dir / "dice.png", "Dice of a slice", self.title)
        shown = [(f"{place}/{len(ranked)}", ranked[place - 1][1]) for place in _places(len(ranked), self.panels)]
        read = Compose(
            [
                LoadImaged([Keys.IMAGE, Keys.LABEL], SliceReader, ensure_channel_first=True, constant=True),
                SameGridd(Keys.LABEL, reference=Keys.IMAGE),
                SqueezeSliced([Keys.IMAGE, Keys.LABEL]),
                AsDiscreted(Keys.LABEL, threshold=0.5),
            ]
        )
        plot_overlays(
            [self._panel(rank, number, read) for rank, number in shown],
            self.output_dir / "overlays.png",
            f"{self.title}: {_shown(len(ranked), self.panels)} slices by Dice (mean {np.mean(groups['all']):.3f})",
        )

    def _panel(self, rank: str, number: int, read: Compose) -> OverlayPanel:
        row = self.rows[number]
        content = read({key: self.data[number][key] for key in (Keys.IMAGE, Keys.LABEL)})
        image, truth = (np.asarray(content[key][0]) for key in (Keys.IMAGE, Keys.LABEL))
        prediction = np.unpackbits(self._packed[number], count=truth.size).reshape(truth.shape)
        distance = "" if row["hd95_mm"] is None else f", HD95 {row['hd95_mm']:.1f} mm"
        title = f"{rank}  {printable(row['source'])}  {row['class_name']}\nDice {row['dice']:.2f}{distance}"
        return OverlayPanel(image, truth, prediction, title)


def _places(count: int, each: int) -> list[int]:
    """Places, from 1, of the first, the middle and the last of ``count``; all of them when they are few."""
    if count <= 3 * each:
        return list(range(1, count + 1))
    # Of more than 3 · each, the middle ones meet neither the first nor the last.
    return [first + place for first in (1, (count - each) // 2 + 1, count - each + 1) for place in range(each)]


def _shown(count: int, each: int) -> str:
    return (
        f"the {each} worst, {each} median and {each} best of {count}"
        if count > 3 * each
        else f"from worst to best, all {count}"
    )
