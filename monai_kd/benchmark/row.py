"""One line of the benchmark's table."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass(frozen=True)
class Row:
    """A ratio of two times that were measured in turn, in one process, or of two amounts of memory.

    Attributes:
        name: what is divided by what.
        aim: the ratio that is aimed at, such as ``"<= 1.3"`` or ``">= 3"``; any other text is printed only.
        ratio: of the medians.
        measured: the median time, or the memory, of each way by its name.
        unit: of these.
    """

    name: str
    aim: str
    ratio: float
    measured: dict[str, float]
    unit: str = "ms"
