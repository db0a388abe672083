"""Evaluation of a segmentation of volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.transforms import LoadImaged
from monai.utils.enums import CommonKeys as Keys

from ..data import in_plane_spacing, voxel_spacing
from ..io import VolumeReader
from ..metrics import masks_metrics
from .mask_report import MaskReport

__all__ = ["VolumeReport"]


class VolumeReport(MaskReport):
    """`MaskReport` of volumes: one row for each of them, without presence scores.

    Attach it to an evaluator whose output has masks in the geometry of the files: ``pred``, with the metadata of the
    image, and ``label``, (C, H, W, D), a mask for each class, or (1 + C, H, W, D) with the background first; of slices
    with several channels, without the last axis. ``overlays.png`` shows the slice along the last axis with most of the
    tumour.

    Output files: ``volumes.csv``, ``patients.csv``, ``dice.png``, ``overlays.png``, ``metrics.json``.

    Args:
        args, kwargs: as for `MaskReport`.
        channels: channels of an image, of which the first is shown.

    Raises:
        ValueError: while running, as `MaskReport`.
    """

    of = "volumes"
    remedy = "Correct the normalization that they were trained with, where the files have more than one value; or take"

    def __init__(self, *args: Any, channels: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.channels = int(channels)
        self._shown: list[int] = []

    def begin(self) -> None:
        super().begin()
        self._shown = []

    def measure(self, output: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
        prediction, truth = output[Keys.PRED], output[Keys.LABEL]
        predicted, true = self.separate(prediction, truth)
        # The slice with most of the tumour, or, where there is none, most of what is marked.
        most = np.asarray((true if true.any() else predicted).any(0).reshape(*true.shape[1:3], -1).sum((0, 1)).cpu())
        place = int(most.argmax())
        self.keep(*(each.reshape(*each.shape[:3], -1)[..., place] for each in (predicted, true)))
        self._shown.append(place)
        first = entry[Keys.IMAGE][0] if isinstance(entry[Keys.IMAGE], list) else entry[Keys.IMAGE]
        if predicted.ndim == 3:
            spacing: Sequence[float] = in_plane_spacing(prediction, first, self.listed_spacing)
        else:
            spacing = voxel_spacing(prediction, first)
        return masks_metrics(predicted, true, spacing, self.mask_names)

    def picture(self, number: int) -> np.ndarray:
        load = LoadImaged(Keys.IMAGE, VolumeReader, channels=self.channels, constant=True, ensure_channel_first=True)
        volume = load({Keys.IMAGE: self.data[number][Keys.IMAGE]})[Keys.IMAGE][0]
        return np.asarray(volume.reshape(*volume.shape[:2], -1)[..., self._shown[number]])
