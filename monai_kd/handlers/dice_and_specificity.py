"""The key metric where some validation slices have no tumour: Dice and specificity in one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.metrics import Metric, MetricsLambda
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CumulativeIterationMetric
from monai.utils.enums import CommonKeys as Keys

from ..data import is_negative
from .defined_dice import DefinedDice

__all__ = ["Specificity", "dice_and_specificity", "validation_metrics"]


class _Unmarked(CumulativeIterationMetric):
    """1 for a slice without a tumour on which nothing is predicted, 0 if something is; NaN for one with a tumour."""

    def __init__(self, include_background: bool) -> None:
        super().__init__()
        self.first = 0 if include_background else 1

    def _compute_tensor(  # type: ignore[override]  # the label is needed
        self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        predicted, true = ((each[:, self.first :] != 0).flatten(1).any(1) for each in (y_pred, y))
        return torch.where(true, torch.nan, (~predicted).float())[:, None]

    def aggregate(self, **kwargs: Any) -> torch.Tensor:
        return torch.as_tensor(self.get_buffer()).nanmean()


class Specificity(IgniteMetricHandler):
    """Share of the slices without a tumour on which no pixel is predicted; NaN if there are no such slices.

    Args:
        include_background: whether channel 0 is a class; otherwise it is the background of one-hot masks.
        output_transform: as for MONAI's metric handlers; predictions and labels are (C, H, W), 0 or 1.
    """

    def __init__(self, include_background: bool, output_transform: Callable) -> None:
        super().__init__(_Unmarked(include_background), output_transform=output_transform, save_details=False)


def dice_and_specificity(dice: float, specificity: float) -> float:
    r"""Mean of the Dice of slices with a tumour and of the specificity of slices without one.

    .. math::
        \frac{1}{2} \Bigl( \frac{1}{|P|} \sum_{i ∈ P} \mathrm{Dice}_i
        + \frac{|\{i ∈ N : \hat{Y}_i = ∅\}|}{|N|} \Bigr)

    P are the slices with a tumour and N those without. A network that marks every slice and one that marks none are
    both at one half at most. Without N it is the Dice; without P it is NaN, as the Dice.

    Example:
        >>> dice_and_specificity(0.75, 0.5), dice_and_specificity(0.75, float("nan"))
        (0.625, 0.75)
    """
    return dice if math.isnan(specificity) else (dice + specificity) / 2


def validation_metrics(
    metric: Callable[[], DefinedDice], data: Sequence[Mapping[str, Any]], negative_probability: float = 0
) -> dict[str, Metric]:
    """The key metric of a segmentation, first, and others that are logged.

    Args:
        metric: builds the Dice.
        data: the validation entries.
        negative_probability: of the training; if it is not 0, tumours are taken out of validation slices too.

    Returns:
        ``dice`` if all slices have a tumour, as far as is known; otherwise ``dice_and_specificity``, ``dice`` and
        ``specificity``.
    """
    dice = metric()
    if not negative_probability and not any(map(is_negative, data)):
        return {"dice": dice}
    include_background = dice.metric_fn.include_background  # type: ignore[attr-defined]  # a DiceMetric
    specificity = Specificity(include_background, from_engine([Keys.PRED, Keys.LABEL]))
    combined = MetricsLambda(dice_and_specificity, dice, specificity)
    return {"dice_and_specificity": combined, "dice": dice, "specificity": specificity}
