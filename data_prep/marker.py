"""The file that marks a folder of generated slices as synthetic."""

from __future__ import annotations

__all__ = ["MARKER"]

MARKER = "PHANTOM.txt"
