"""Emptying slices that show no tumour by the presence rule."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..metrics import PresenceRule
from ..transforms import foreground_probabilities
from .examination import EXAMINATION

__all__ = ["JudgePresenced"]


class JudgePresenced(MapTransform):
    """Set masks to 0 on slices whose presence score is below the threshold of the operating point.

    The score and the threshold are added under ``examination``: ``presence_score``, the highest of the slices, and
    ``presence_threshold``, where there is one. Without one, masks stay as they are.

    Args:
        keys: masks, in the geometry of ``probability``.
        classes: number of classes, without the background.
        operating_point: of ``settings.json``, see `PresenceRule`; or ``None``.
        threshold: in place of that of the operating point; 0 lets every slice pass; ``None``: none of its own.
        probability_key: the probabilities of the classes, see `foreground_probabilities`.

    Shape:
        - masks and probabilities: (C, X, Y) or (C, X, Y, Z)

    Raises:
        ValueError: as `PresenceRule.of`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        classes: int = 1,
        operating_point: Mapping[str, Any] | None = None,
        threshold: float | None = None,
        probability_key: str = "probability",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.classes, self.probability_key = classes, probability_key
        self.rule = PresenceRule.of(operating_point, threshold)

    @property
    def decides(self) -> bool:
        """Whether there is a threshold above 0."""
        return bool(self.rule.threshold)

    def __str__(self) -> str:
        return f"a slice shows a tumour if its presence score ({self.rule.score}) is at least {self.rule.threshold:.4g}"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        scores = self.rule.scores(foreground_probabilities(torch.as_tensor(out[self.probability_key]), self.classes))
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
