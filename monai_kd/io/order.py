"""The order of names with numbers in them."""

from __future__ import annotations

import re

__all__ = ["natural_order"]


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A key by which names are sorted as people number them: 2 before 10.

    Example:
        >>> sorted(["b10.png", "b2.png", "10.png", "2/c.png", "a.png"], key=natural_order)
        ['2/c.png', '10.png', 'a.png', 'b2.png', 'b10.png']
    """
    # Text and digits alternate, so that a number is only ever compared with a number. The name itself parts 1 from 01.
    parts: list[str | int] = list(re.split("([0-9]+)", name))
    parts[1::2] = map(int, parts[1::2])
    return parts, name
