"""How the best epoch is chosen."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["best_epoch_by"]

logger = logging.getLogger(__name__)


def best_epoch_by(dataset: Sequence[Mapping[str, Any]], metric: str = "dice") -> str:
    """How the epoch of ``model.pt`` is chosen: by the metric, or ``"last epoch"`` when no slice has a tumour.

    Without a tumour Dice is undefined, see `monai_kd.handlers.DefinedDice`, and a warning is logged.

    Args:
        dataset: validation data; items have ``label``, (C, H, W). It is read up to the first tumour.
        metric: name of the key metric.

    Example:
        >>> best_epoch_by([{"label": torch.zeros(1, 2, 2)}, {"label": torch.ones(1, 2, 2)}])
        'dice'
    """
    if any(bool((torch.as_tensor(dataset[index]["label"]) != 0).any()) for index in range(len(dataset))):
        return metric
    logger.warning(
        "None of the %d validation slices has a tumour: Dice is undefined and can't select the best epoch, so that "
        "model.pt will be that of the LAST epoch. Choose another fold to validate on.",
        len(dataset),
    )
    return "last epoch"
