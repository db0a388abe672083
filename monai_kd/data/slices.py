"""Data sets of slices, volumes among them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..io.nifti import nifti_header, slice_axis
from .checked import CheckedDataset

__all__ = ["SliceDataset"]

logger = logging.getLogger(__name__)


class SliceDataset(CheckedDataset):
    """`CheckedDataset` in which a NIfTI volume of many slices counts as many items.

    An item of a volume says in ``slice`` which one it is, from 0, for `monai_kd.transforms.SqueezeSliced` to take. One
    that does not say where it comes from gets a ``source``, the name of its file.

    Args:
        data: dictionaries with ``image``, a path, and whatever else the transforms read.
        transform: as for ``CacheDataset``, and all else too.
        otherwise: items to use, logged as a warning, when there are none in ``data``.

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
                "There are no slices to validate on: the best epoch is chosen on the %d images that TRAIN the network, "
                "and its numbers say nothing about new ones.",
                len(otherwise),
            )
        items = [item for entry in data or otherwise for item in _slices(entry)]
        if not items:
            raise ValueError("no slices: nothing is labelled yet, or all of it was put on the other side of the split.")
        super().__init__(items, transform, **kwargs)


def _slices(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    name = Path(entry["image"]).name
    if "slice" in entry or (depth := _depth(name, entry["image"])) == 1:
        return [{"source": name, **entry}]
    return [{"source": f"{name} {index + 1}/{depth}", **entry, "slice": index} for index in range(depth)]


def _depth(name: str, path: str) -> int:
    """Slices of a file; of one that can't be read, 1: loading it will say what is wrong."""
    if not name.lower().endswith((".nii", ".nii.gz")):
        return 1
    try:
        shape = nifti_header(path).get_data_shape()
    except Exception:  # damaged headers make nibabel raise half a dozen different types
        return 1
    return int(shape[slice_axis(shape)]) if len(shape) == 3 else 1
