"""Input that is no contrast-enhanced T1-weighted head: a warning in place of a finding."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_numpy

from ..metrics import is_head_shaped
from .presence import EXAMINATION

__all__ = ["JudgeInputd"]

MOST_SLICES = 9  # of a volume, of the middle half of it, that are looked at
NO_HEAD = "it does not have the shape of a whole head on a dark ground"


class JudgeInputd(MapTransform):
    """Set masks to 0 of images whose header says that they are no T1-weighted image of a head.

    ``unfit`` in the metadata marks them, see `SourceImage`; it is then also added under ``examination``. Of every
    image, the shape is looked at (`is_head_shaped`), of a volume on slices of its middle half, of which most must be
    doubtful: then a sentence is added under ``examination`` as ``warnings``, and the mask stays.

    Args:
        keys: masks, with the metadata of `read_image`.
        judge_unfit: whether masks of unfit images stay too.
        image_key: the image as the network got it, whose first channel is looked at.

    Shape:
        - masks and images: (C, X, Y) or (C, X, Y, Z)
    """

    def __init__(
        self,
        keys: KeysCollection,
        judge_unfit: bool = False,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.judge_unfit, self.image_key = bool(judge_unfit), image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out, judged = dict(data), dict[str, Any]()
        for key in self.key_iterator(out):
            if "unfit" in getattr(out[key], "meta", {}) and not self.judge_unfit:
                out[key], judged["unfit"] = torch.zeros_like(out[key]), True
        if self.image_key in out and not _shaped(convert_to_numpy(out[self.image_key])[0]):
            judged["warnings"] = [NO_HEAD]
        if judged:
            out[EXAMINATION] = {**out.get(EXAMINATION, {}), **judged}
        return out


def _shaped(image: np.ndarray) -> bool:
    """Of one slice, (X, Y), or of most slices in the middle of a volume, (X, Y, Z)."""
    slices = image.reshape(*image.shape[:2], -1)
    count = slices.shape[2]
    middle = np.unique(np.linspace((count - 1) / 4, 3 * (count - 1) / 4, min(count, MOST_SLICES)).round().astype(int))
    return 2 * sum(is_head_shaped(slices[..., number]) for number in middle) >= len(middle)
