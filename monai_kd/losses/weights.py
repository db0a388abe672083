"""The weights of loss terms: which numbers they may be, and what a misspelt name may have meant."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from numbers import Real

__all__ = ["check_weights", "near_names"]


def near_names(name: str, known: Iterable[str]) -> str:
    """The known names most like ``name``, in words to follow it; nothing where none is."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


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
