"""Ways that need a compiler, which not every machine has."""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["compiles"]

logger = logging.getLogger(__name__)


def compiles(way: Callable[[], object]) -> bool:
    """Run a way that uses ``torch.compile`` once, which compiles it, and tell whether that went well.

    If not, without a C++ compiler, say, the first line of the reason is logged.

    Example:
        >>> compiles(lambda: None), compiles(lambda: 1 / 0)
        (True, False)
    """
    try:
        way()
    except Exception as error:
        logger.warning("torch.compile is left out: %s", (str(error).strip().splitlines() or [type(error).__name__])[0])
        return False
    return True
