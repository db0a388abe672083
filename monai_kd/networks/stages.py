"""Numbers of the blocks of a network in timm, which other libraries count without stages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["numbered_blocks"]


def numbered_blocks(channels: Iterable[int]) -> list[str]:
    """Names of consecutive blocks in timm, by their output channels: a stage begins where these change.

    Example:
        >>> numbered_blocks([16, 24, 24, 40])
        ['blocks.0.0', 'blocks.1.0', 'blocks.1.1', 'blocks.2.0']
    """
    names, stage, position, before = list[str](), -1, 0, None
    for count in channels:
        stage, position = (stage + 1, 0) if count != before else (stage, position + 1)
        names.append(f"blocks.{stage}.{position}")
        before = count
    return names
