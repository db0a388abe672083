"""What a name that is not known may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["near_names"]


def near_names(name: str, known: Iterable[str], most: int = 3, cutoff: float = 0.6, prefix: str = "") -> str:
    """The known names most like ``name``, in words to follow it; nothing where none is.

    Args:
        name: what was given.
        known: what could have been.
        most: how many names are listed at most.
        cutoff: least similarity, from 0 to 1, see ``difflib.get_close_matches``.
        prefix: stands before each listed name, such as ``--`` of options.

    Example:
        >>> near_names("epoch", ["epochs", "fold"], prefix="--")
        ' (did you mean --epochs?)'
    """
    near = difflib.get_close_matches(name, [each for each in known if each != name], n=most, cutoff=cutoff)
    return f" (did you mean {' or '.join(prefix + each for each in near)}?)" if near else ""
