"""Whether validation can tell a good epoch from a bad one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["best_epoch_by"]

logger = logging.getLogger(__name__)


def best_epoch_by(dataset: Sequence[Mapping[str, Any]], metric: str = "dice") -> str:
    """What decides which epoch ``model.pt`` is of: the metric, or ``"last epoch"`` when no slice has a tumour.

    Dice is undefined then, see `monai_kd.handlers.DefinedDice`; it is logged as a warning.

    Args:
        dataset: to validate on; items have ``label``, (C, H, W). It is read up to the first tumour.
        metric: name of the key metric.

    Example:
        >>> best_epoch_by([{"label": torch.zeros(1, 2, 2)}, {"label": torch.ones(1, 2, 2)}])
        'dice'
    """
    if any(bool((torch.as_tensor(dataset[index]["label"]) != 0).any()) for index in range(len(dataset))):
        return metric
    logger.warning(
        "None of the %d slices to validate on has a tumour: Dice is undefined, no epoch is best by it, and model.pt "
        "will be that of the LAST epoch. Choose another fold to validate on.",
        len(dataset),
    )
    return "last epoch"
