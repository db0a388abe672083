"""Dice that is NaN where it is undefined, and the choice of the best epoch with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric

__all__ = ["DefinedDice", "not_worse"]


class _DiceOfMasks(DiceMetric):
    """MONAI's ``DiceMetric`` of masks, without its question to the device about each mask: ``if y.sum() > 0``."""

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        if self.num_classes is not None or y_pred.shape != y.shape:
            return super()._compute_tensor(y_pred, y)
        first = 0 if self.include_background or y_pred.shape[1] == 1 else 1
        found, mask = (each[:, first:].bool().flatten(2) for each in (y_pred, y))
        size = mask.sum(dim=-1)
        dice = 2.0 * (found & mask).sum(dim=-1) / (size + found.sum(dim=-1))
        return torch.where(size > 0, dice, torch.nan)


class DefinedDice(IgniteMetricHandler):
    """MONAI's ``MeanDice`` handler of masks, but NaN if no slice has a tumour.

    Slices without a tumour are left out of the mean. If none is left, MONAI returns 0, as if the network had found none
    of the tumours. Nothing is read from the device before the end of an epoch.

    Args:
        include_background: whether the first of several channels counts.
        num_classes: of maps of class indices, with one channel; ``None`` for masks of 0 and 1, a channel a class.
        output_transform: see ``IgniteMetricHandler``.
    """

    def __init__(
        self,
        include_background: bool = True,
        num_classes: int | None = None,
        output_transform: Callable = lambda output: output,
    ) -> None:
        dice = _DiceOfMasks(include_background, num_classes=num_classes)
        super().__init__(metric_fn=dice, output_transform=output_transform)

    def compute(self) -> Any:
        mean = super().compute()
        return float("nan") if torch.isnan(self.metric_fn.get_buffer()).all() else mean


def not_worse(current: float, best: float) -> bool:
    """Whether a metric is better than the best so far, or one of the two is NaN.

    For ``metric_cmp_fn`` of MONAI's evaluators: if Dice is undefined, the last epoch is the best one.

    Example:
        >>> not_worse(0.5, 0.4), not_worse(0.4, 0.4), not_worse(float("nan"), float("nan"))
        (True, False, True)
    """
    return not current <= best
