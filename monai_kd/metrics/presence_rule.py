"""The rule by which a slice shows a tumour or not, the same wherever a network is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..config.checks import is_number
from .presence import PRESENCE_SCORES, presence_score

__all__ = ["OWN_CLASSES", "PresenceRule", "classifier_of", "needs_classifier_file"]

# In the place of the SHA-256 of a classifier: the class head of the segmentation itself.
OWN_CLASSES = "own"

DEFAULT_SCORE = "top_k_mean"


@dataclass(frozen=True)
class PresenceRule:
    """A slice shows a tumour if its `presence_score` is at least a threshold.

    Attributes:
        score: kind of the score.
        threshold: ``None``: the score is computed, and decides nothing.

    Raises:
        ValueError: there is no such score, or the threshold is no number from 0 to 1.

    Example:
        >>> rule = PresenceRule.of({"score": "max", "threshold": 0.7, "specificity": 0.95})
        >>> scores = rule.scores(torch.tensor([[[[0.6, 0.9], [0.2, 0.3]]]]))  # one class, two slices
        >>> scores.round(1), rule.passed(scores)
        (array([0.6, 0.9]), array([False,  True]))
    """

    score: str = DEFAULT_SCORE
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.score not in PRESENCE_SCORES:
            raise ValueError(f"operating_point: score must be one of {', '.join(PRESENCE_SCORES)}, got {self.score!r}.")
        if self.threshold is not None and not is_number(self.threshold, highest=1):
            raise ValueError(f"operating_point: threshold must be a number from 0 to 1, got {self.threshold!r}.")

    @classmethod
    def of(cls, operating_point: Mapping[str, Any] | None, threshold: float | None = None) -> PresenceRule:
        """The rule of an ``operating_point`` of ``settings.json``.

        Args:
            operating_point: with ``score`` and ``threshold``; ``None`` where none was chosen.
            threshold: in its place; 0 lets every slice pass.

        Raises:
            ValueError: a value is missing or not allowed.
        """
        if threshold is not None and not is_number(threshold, highest=1):
            raise ValueError(f"presence_threshold must be a number from 0 to 1, got {threshold!r}.")
        if operating_point is None:
            return cls(threshold=threshold)
        if not isinstance(operating_point, Mapping) or not {"score", "threshold"} <= operating_point.keys():
            raise ValueError(f"operating_point must have score and threshold, got {operating_point!r}.")
        chosen = cls(operating_point["score"], operating_point["threshold"])
        return chosen if threshold is None else cls(chosen.score, threshold)

    def scores(self, probability: torch.Tensor) -> np.ndarray:
        """The score of each slice.

        Args:
            probability: of each class without the background.

        Shape:
            - probability: (C, X, Y) or (C, X, Y, Z)
            - result: (1,) or (Z,)

        Raises:
            ValueError: as `presence_score`.
        """
        slices = [probability] if probability.ndim == 3 else probability.unbind(-1)
        return np.array([presence_score(each, self.score) for each in slices])

    def passed(self, scores: np.ndarray) -> np.ndarray:
        """Which slices show a tumour, of the shape of their scores; without a threshold all may."""
        return np.full(scores.shape, True) if self.threshold is None else scores >= self.threshold


def classifier_of(operating_point: Mapping[str, Any] | None) -> str | None:
    """The SHA-256 of the classifier that an ``operating_point`` was chosen together with; ``None`` where it was not.

    `OWN_CLASSES` where it was chosen with the classes that the segmentation gives itself.

    Example:
        >>> classifier_of({"score": "max", "threshold": 0.7}) is classifier_of(None) is None
        True
    """
    return None if operating_point is None else operating_point.get("classifier")


def needs_classifier_file(operating_point: Mapping[str, Any] | None) -> bool:
    """Whether it was chosen together with a classifier that is no part of the segmentation.

    Example:
        >>> needs_classifier_file({"classifier": "0" * 64}), needs_classifier_file({"classifier": OWN_CLASSES})
        (True, False)
    """
    return classifier_of(operating_point) not in (None, OWN_CLASSES)
