"""What post-processing finds out about an image as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["EXAMINATION", "NOT_JUDGED", "examined"]

EXAMINATION = "examination"  # key of an item
NOT_JUDGED = "not judged"  # in place of an answer, of an image that the network is not made for


def examined(output: Mapping[str, Any], warnings: Sequence[str] = ()) -> tuple[dict[str, Any], bool]:
    """Columns of a table for what post-processing found out, and whether the image is one that the network can judge.

    Args:
        output: as `BundlePredictor` returns it.
        warnings: of the input, see `SourceImage`; with those of the post-processing they are the column ``warning``.

    Example:
        >>> examined({EXAMINATION: {"unfit": True, "warnings": ["it is a CT"], "feature_distance": 3.2}})
        ({'feature_distance': 3.2, 'warning': 'it is a CT'}, False)
    """
    found = dict(output.get(EXAMINATION, {}))
    doubts = [*warnings, *found.pop("warnings", [])]
    judged = not found.pop("unfit", False)
    return {**found, "warning": "; ".join(doubts)} if doubts else found, judged
