"""Whether inference and training compute in half precision where the user does not say."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import torch

from ..engines import autocast_pays
from ..evaluation.precision import MAX_LOSS

__all__ = ["amp_by_default", "amp_in_training", "is_half_precision"]

logger = logging.getLogger(__name__)


def amp_by_default(trained: Mapping[str, Any], device: str | torch.device) -> bool:
    """Whether ``amp`` is on where the user does not say so: where it is quicker, and measured to cost next to nothing.

    The measurement is ``half_precision`` of the settings, see `monai_kd.evaluation.run_precision`.

    Args:
        trained: settings of the weights, see `trained_settings`.
        device: where the network runs, see `monai_kd.engines.autocast_pays`.

    Example:
        >>> amp_by_default({"half_precision": {"metric": "dice", "lost": {"all": 0.02}}}, "cpu")
        False
    """
    measured = trained.get("half_precision")
    if measured is None or not autocast_pays(device) or (lost := max(measured["lost"].values())) > MAX_LOSS:
        return False
    logger.info(
        "amp: bfloat16, by which these weights lose %.4f of the %s at most (settings.json): --amp False for float32.",
        *(max(lost, 0.0), measured["metric"]),
    )
    return True


def amp_in_training(device: str | torch.device) -> bool:
    """Whether a training uses ``amp`` where the user does not say: on GPUs, and on CPUs with instructions for bfloat16.

    On other CPUs, a step takes many times as long in bfloat16 as in float32, see docs/performance.md.

    Args:
        device: where the network is trained, see `monai_kd.engines.autocast_pays`.

    Example:
        >>> amp_in_training("cuda:0")
        True
    """
    if torch.device(device).type != "cpu" or autocast_pays(device):
        return True
    logger.info(
        "amp: float32, since this processor has no instructions for bfloat16 (AVX-512 BF16, AMX), which is several "
        "times slower without: --amp True for it."
    )
    return False


def is_half_precision(value: Any) -> bool:
    """Whether a value of ``settings.json`` is what `monai_kd.evaluation.run_precision` writes, or ``None``."""
    if not isinstance(value, Mapping):
        return value is None
    lost = value.get("lost")
    if not isinstance(lost, Mapping) or not lost or not isinstance(value.get("metric"), str):
        return False
    return all(type(each) in (int, float) and math.isfinite(each) for each in lost.values())
