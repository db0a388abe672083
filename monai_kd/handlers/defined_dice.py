"""Dice that is not a number where it is undefined, and what that means for the best epoch."""

from __future__ import annotations

from typing import Any

import torch
from monai.handlers import MeanDice

__all__ = ["DefinedDice", "not_worse"]


class DefinedDice(MeanDice):
    """MONAI's ``MeanDice`` handler, NaN where no slice has a tumour.

    Slices without a tumour are left out of the mean. When nothing is left, MONAI returns 0, as for a network that
    finds none of the tumours.
    """

    def compute(self) -> Any:
        mean = super().compute()
        return float("nan") if torch.isnan(self.metric_fn.get_buffer()).all() else mean


def not_worse(current: float, best: float) -> bool:
    """Whether a metric is better than the best so far; where they can't be compared, the later one counts as better.

    For ``metric_cmp_fn`` of MONAI's evaluators: with an undefined Dice, the last epoch is the best one.

    Example:
        >>> not_worse(0.5, 0.4), not_worse(0.4, 0.4), not_worse(float("nan"), float("nan"))
        (True, False, True)
    """
    return not current <= best
