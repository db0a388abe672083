"""When the class of a slice is too uncertain to be named."""

from __future__ import annotations

__all__ = ["LEAST_CERTAIN", "is_uncertain"]

LEAST_CERTAIN = 0.6


def is_uncertain(probability: float) -> bool:
    """Whether the most probable class has less than `LEAST_CERTAIN`: the others then have more than 40 % together.

    Args:
        probability: of the most probable class.

    Example:
        >>> is_uncertain(0.38), is_uncertain(0.6)
        (True, False)
    """
    return probability < LEAST_CERTAIN
