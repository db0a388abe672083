"""Comparison of folders."""

from __future__ import annotations

from pathlib import Path

__all__ = ["same_folder"]


def same_folder(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to the same folder."""
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
