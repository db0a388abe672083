"""Dice that is NaN where it is undefined, and the choice of the best epoch with it."""

from __future__ import annotations

from typing import Any

import torch
from monai.handlers import MeanDice

__all__ = ["DefinedDice", "not_worse"]


class DefinedDice(MeanDice):
    """MONAI's ``MeanDice`` handler, but NaN if no slice has a tumour.

    Slices without a tumour are left out of the mean. If none is left, MONAI returns 0, as if the network had found none
    of the tumours.
    """

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
