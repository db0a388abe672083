"""Data sets of slices, from files of slices and of volumes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..io.kinds import kind_by_suffix
from ..io.nifti import nifti_header, slice_axis
from .checked import CheckedDataset

__all__ = ["SliceDataset"]

logger = logging.getLogger(__name__)


class SliceDataset(CheckedDataset):
    """`CheckedDataset` in which each slice of a NIfTI volume is an item.

    An item of a volume has the number of its slice, from 0, in ``slice``, for `monai_kd.transforms.SqueezeSliced`.
    Items without a ``source`` get one, made of the name of the file and the slice.

    Args:
        data: dictionaries with ``image``, a path, and the other keys that the transforms read.
        transform: as for ``CacheDataset``.
        otherwise: items to use if ``data`` is empty, which is logged as a warning.
        kwargs: as for ``CacheDataset``.

    Raises:
        ValueError: there are no items in either.
        UnusableItems, RuntimeError: as for `CheckedDataset`.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Sequence[Callable] | Callable | None = None,
        otherwise: Sequence[Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        if not data and otherwise:
            logger.warning(
                "There are no slices to validate on: the best epoch is chosen on the %d TRAINING images, whose metrics "
                "say nothing about new images.",
                len(otherwise),
            )
        items = [item for entry in data or otherwise for item in _slices(entry)]
        if not items:
            raise ValueError("no slices: nothing is labelled yet, or all of it is in the other part of the split.")
        super().__init__(items, transform, **kwargs)


def _slices(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = Path(entry["image"]).name
    if "slice" in entry or (depth := _depth(entry["image"])) == 1:
        return [{"source": name, **entry}]
    return [{"source": f"{name} {index + 1}/{depth}", **entry, "slice": index} for index in range(depth)]


def _depth(path: str) -> int:
    """Number of slices of a file; 1 for a file that can't be read, since loading it raises the error."""
    if kind_by_suffix(path) != "nifti":
        return 1
    try:
        shape = nifti_header(path).get_data_shape()
    except Exception:  # damaged headers make nibabel raise half a dozen different types
        return 1
    return int(shape[slice_axis(shape)]) if len(shape) == 3 else 1
