"""Emptying slices that show no tumour by the presence rule."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..config.checks import is_number
from ..io.plain import plain_tensor
from ..metrics import PresenceRule, SliceStack, presence_in_context
from ..transforms import foreground_probabilities
from .examination import EXAMINATION
from .own_classes import OwnClasses
from .second_reader import SecondReader

__all__ = ["JudgePresenced"]


class JudgePresenced(MapTransform):
    """Set masks to 0 on slices whose presence score is below the threshold of the operating point.

    The score and the threshold are added under ``examination``: ``presence_score``, the highest of the slices, and
    ``presence_threshold``, where there is one. Without one, masks stay as they are.

    With a second reader, the scores are those of both networks together, see `monai_kd.metrics.joined_presence`. A
    slice of a volume is judged together with its neighbours, see `monai_kd.metrics.presence_in_context`.

    Args:
        keys: masks, in the geometry of ``probability``.
        classes: number of classes, without the background.
        operating_point: of ``settings.json``, see `PresenceRule`; or ``None``.
        threshold: in place of that of the operating point; 0 lets every slice pass; ``None``: none of its own.
        probability_key: the probabilities of the classes, see `foreground_probabilities`; of a volume a ``MetaTensor``
            with the metadata of `read_image`, otherwise each of its slices is judged for itself.
        context: weight of the neighbours, from 0 to 1; 0 judges each slice for itself.
        reader: a classifier, or the classes of the network itself, asked about each slice; ``None``: none.
        image_key: the slices as the network got them, for the reader.

    Shape:
        - masks and probabilities: (C, X, Y) or (C, X, Y, Z)

    Raises:
        ValueError: as `PresenceRule.of`, or ``context`` is not in 0 … 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        classes: int = 1,
        operating_point: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        probability_key: str = "probability",
        context: float = 0.0,
        reader: SecondReader | OwnClasses | None = None,
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not is_number(context, highest=1):
            raise ValueError(f"presence_context must be a number from 0 to 1, got {context!r}.")
        self.context = float(context)
        self.classes, self.probability_key = classes, probability_key
        self.reader, self.image_key = reader, image_key
        self.rule = PresenceRule.of(operating_point, threshold)

    @property
    def decides(self) -> bool:
        """Whether there is a threshold above 0."""
        return bool(self.rule.threshold)

    def __str__(self) -> str:
        who = "its own classes" if isinstance(self.reader, OwnClasses) else "a classifier"
        joined = f" and {who}" if self.reader is not None else ""
        seen = ", in a volume together with its neighbours," if self.context else ""
        return (
            f"a slice is marked only if its presence score ({self.rule.score}{joined}){seen} is at least "
            f"{self.rule.threshold:.4g}"
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        probability = torch.as_tensor(out[self.probability_key])
        scores = self.rule.scores(foreground_probabilities(probability, self.classes))
        if self.reader is not None:
            image = plain_tensor(out[self.image_key])
            slices = image[None] if image.ndim == 3 else image.movedim(-1, 0)
            scores = self.reader.joined(scores, slices)
        if len(scores) > 1 and isinstance(probability, MetaTensor):
            positions = SliceStack.of(probability.meta, len(scores)).positions
            scores = presence_in_context(scores, positions, self.context)
        judged: dict[str, Any] = {"presence_score": round(float(scores.max()), 4)}
        if self.rule.threshold is not None:
            judged["presence_threshold"] = self.rule.threshold
            passed = self.rule.passed(scores)
            for key in self.key_iterator(out):
                out[key] = _only(out[key], passed)
        out[EXAMINATION] = {**out.get(EXAMINATION, {}), **judged}
        return out


def _only(mask: torch.Tensor, passed: np.ndarray) -> torch.Tensor:
    """The mask on the slices that passed; a slice without a third axis counts as one."""
    keep = torch.as_tensor(passed if mask.ndim == 4 else passed[0], device=mask.device)
    return mask * keep.to(mask.dtype)
