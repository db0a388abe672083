"""Input that is no contrast-enhanced T1-weighted head: a warning in place of a finding."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_numpy

from ..io.plain import plain_tensor
from ..metrics import is_head_shaped
from .examination import EXAMINATION
from .familiarity import Familiarity

__all__ = ["JudgeClassInputd", "JudgeInputd"]

MOST_SLICES = 9  # of a volume, of the middle half of it, that are looked at
UNFAMILIAR = 1.4  # distance of features, in which 1 is the 99th percentile of training slices of other patients
UNLIKE = "its features are unlike those of the training slices (distance {:.1f}, where up to 1 is usual)"
NO_HEAD = "it does not have the shape of a whole head on a dark ground"


class JudgeInputd(MapTransform):
    """Set masks to 0 of images whose header says that they are no T1-weighted image of a head.

    ``unfit`` in the metadata marks them, see `SourceImage`; it is then also added under ``examination``. Of every
    image, the shape is looked at (`is_head_shaped`), of a volume on slices of its middle half, of which most must be
    doubtful: then a sentence is added under ``examination`` as ``warnings``, and the mask stays. The shape of images
    that were not read as those of a head is not looked at, see `SourceImage`.

    With what training slices look like to the network, images whose features are `UNFAMILIAR` times as far from them as
    is usual are marked and warned of too; of a volume, the median of the same slices counts. ``feature_distance`` is
    added under ``examination``.

    Args:
        keys: masks, with the metadata of `read_image`.
        judge_unfit: whether masks of unfit images stay too.
        image_key: the image as the network got it, whose first channel is looked at.
        familiarity: has watched the network, see `monai_kd.engines.PlanarInferer`; ``None``: features are not looked
            at.

    Shape:
        - masks and images: (C, X, Y) or (C, X, Y, Z)
    """

    def __init__(
        self,
        keys: KeysCollection,
        judge_unfit: bool = False,
        image_key: str = "image",
        familiarity: Familiarity | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.judge_unfit, self.image_key = bool(judge_unfit), image_key
        self.familiarity = familiarity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out, judged = dict(data), dict[str, Any]()
        if self.image_key in out:
            judged = _looked_at(out[self.image_key], self.familiarity)
        for key in self.key_iterator(out):
            if (_unfamiliar(judged) or "unfit" in getattr(out[key], "meta", {})) and not self.judge_unfit:
                out[key], judged["unfit"] = torch.zeros_like(out[key]), True
        return _with(out, judged)


class JudgeClassInputd(Transform):
    """Mark images that a classifier is not made for, by the same rules as `JudgeInputd`.

    ``unfit`` is added under ``examination``, with ``warnings`` and ``feature_distance``; the probabilities stay.

    Args:
        judge_unfit: whether unfit images are not marked, only warned of.
        image_key, familiarity: as for `JudgeInputd`; the image has the metadata of `read_image`.

    Shape:
        - image: (C, X, Y) or (C, X, Y, Z)
    """

    def __init__(
        self, judge_unfit: bool = False, image_key: str = "image", familiarity: Familiarity | None = None
    ) -> None:
        self.judge_unfit, self.image_key, self.familiarity = bool(judge_unfit), image_key, familiarity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        image = data[self.image_key]
        judged = _looked_at(image, self.familiarity)
        if (_unfamiliar(judged) or "unfit" in getattr(image, "meta", {})) and not self.judge_unfit:
            judged["unfit"] = True
        return _with(dict(data), judged)


def _looked_at(image: torch.Tensor, familiarity: Familiarity | None) -> dict[str, Any]:
    """What the pixels say: ``feature_distance`` and ``warnings``."""
    judged, warnings = dict[str, Any](), list[str]()
    slices = _middle(plain_tensor(image))
    if "of_head" not in getattr(image, "meta", {}) and not _shaped(convert_to_numpy(slices)):
        warnings.append(NO_HEAD)
    if familiarity is not None:
        judged["feature_distance"] = round(float(np.median(familiarity.distances(slices))), 2)
    if _unfamiliar(judged):
        warnings.append(UNLIKE.format(judged["feature_distance"]))
    return {**judged, "warnings": warnings} if warnings else judged


def _unfamiliar(judged: Mapping[str, Any]) -> bool:
    return judged.get("feature_distance", 0) >= UNFAMILIAR


def _with(out: dict[Hashable, Any], judged: Mapping[str, Any]) -> dict[Hashable, Any]:
    return {**out, EXAMINATION: {**out.get(EXAMINATION, {}), **judged}} if judged else out


def _middle(image: torch.Tensor) -> torch.Tensor:
    """Slices, (B, C, X, Y), of the middle half of a volume, (C, X, Y, Z), or the one slice, (C, X, Y)."""
    slices = image.reshape(*image.shape[:3], -1).movedim(-1, 0)
    return slices[torch.from_numpy(middle_half(len(slices)))]


def middle_half(count: int) -> np.ndarray:
    """Which of ``count`` slices are looked at, at most `MOST_SLICES`.

    Example:
        >>> middle_half(9).tolist()
        [2, 3, 4, 5, 6]
    """
    return np.unique(np.linspace((count - 1) / 4, 3 * (count - 1) / 4, min(count, MOST_SLICES)).round().astype(int))


def _shaped(slices: np.ndarray) -> bool:
    """Whether most of them are."""
    return 2 * sum(is_head_shaped(each[0]) for each in slices) >= len(slices)
