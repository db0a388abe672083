"""The weights of loss terms: which numbers they may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real

__all__ = ["check_weights"]


def check_weights(weights: Mapping[str, float]) -> None:
    """Check that the weights are finite numbers, not negative and not all 0."""
    odd = {name: weight for name, weight in weights.items() if not _is_number(weight)}
    if odd:
        raise ValueError(f"loss weights must be numbers, got {odd}.")
    odd = {name: weight for name, weight in weights.items() if not 0 <= weight < math.inf}
    if odd:
        raise ValueError(f"loss weights must be finite and not negative, got {odd}.")
    if not any(weights.values()):
        raise ValueError(f"at least one loss weight must be above 0, got {dict(weights)}.")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
