"""Turning slices upright, as viewers show them and networks are trained on them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform

__all__ = ["UprightInPlane", "UprightInPlaned", "edge_marks", "upright_array", "upright_aspect", "upright_turn"]

OBLIQUE = 0.35  # cosine from which a second letter is shown: 20 degrees off the axis
ENDS = ("LR", "PA", "IS")  # of the axes of RAS+, at their negative and positive ends


def upright_turn(affine: Any) -> tuple[bool, tuple[bool, bool]]:
    """How to turn the first two axes so that the slice is upright, in radiological convention.

    Column indices then increase towards the patient's left (posterior in sagittal slices), and row indices towards
    posterior (inferior in coronal and sagittal slices).

    Args:
        affine: (4, 4), indices to RAS+.

    Returns:
        Whether to swap the two axes and, for each of the two afterwards, whether to flip it.

    Example:
        >>> upright_turn(np.diag([-0.49, -0.49, 6, 1]))  # as data_prep writes slices
        (False, (False, False))
        >>> upright_turn(np.eye(4))  # rows run towards anterior: upside down
        (False, (True, True))
    """
    columns = np.asarray(affine, dtype=float)[:3, :2]
    first = int(np.abs(columns[:, 0]).argmax())
    rest = np.abs(columns[:, 1])
    rest[first] = -1
    second = int(rest.argmax())
    flips = [bool(columns[first, 0] > 0), bool(columns[second, 1] > 0)]
    swap = first > second
    return swap, (flips[1], flips[0]) if swap else (flips[0], flips[1])


def upright_array(array: np.ndarray, affine: Any) -> np.ndarray:
    """An array turned by `upright_turn`, as (X, Y, slices); a view of it.

    Args:
        array: (X, Y) or (X, Y, slices).
        affine: (4, 4), indices to RAS+.
    """
    swap, flips = upright_turn(affine)
    array = array.reshape(*array.shape[:2], -1)
    array = array.transpose(1, 0, 2) if swap else array
    return array[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]


def upright_aspect(affine: Any, spacing: Sequence[float] | np.ndarray) -> float:
    """Height of a pixel of an upright slice by its width; 1 where they are not known.

    Args:
        affine: (4, 4), indices to RAS+, of the slice before `upright_turn`.
        spacing: of its first two axes, in mm, NaN where it is not known; others are not used.

    Example:
        >>> upright_aspect(np.diag([-0.5, -1, 6, 1]), [0.5, 1, 6])
        2.0
    """
    swap, _ = upright_turn(affine)
    width, height = np.asarray(spacing, dtype=float)[:2][:: -1 if swap else 1]
    return 1.0 if np.isnan(width) or np.isnan(height) else float(height / width)


def edge_marks(affine: Any) -> dict[str, str]:
    """The sides of the patient at the edges of an upright slice: A, P, R, L, S and I.

    In an oblique slice a second letter follows, of the next direction, where it is 20 degrees or more off the axis.

    Args:
        affine: (4, 4), indices to RAS+, of the slice before `upright_turn`.

    Returns:
        Letters of the edges ``left``, ``right``, ``top`` and ``bottom``.

    Example:
        >>> edge_marks(np.diag([0.5, 0.5, 5, 1]))  # an axial slice whose rows are stored upside down
        {'left': 'R', 'right': 'L', 'top': 'A', 'bottom': 'P'}
    """
    swap, flips = upright_turn(affine)
    columns = np.asarray(affine, dtype=float)[:3, :2]
    columns = columns[:, ::-1] if swap else columns
    columns = columns / np.linalg.norm(columns, axis=0) * [-1 if flip else 1 for flip in flips]
    (left, right), (top, bottom) = (_ends(column) for column in columns.T)
    return {"left": left, "right": right, "top": top, "bottom": bottom}


def _ends(direction: np.ndarray) -> tuple[str, str]:
    """Letters at the two ends of a line along a unit vector in RAS+."""
    axes = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    axes = axes[:1] + [axis for axis in axes[1:2] if abs(direction[axis]) >= OBLIQUE]
    ends = ["".join(ENDS[axis][int(direction[axis] * side > 0)] for axis in axes) for side in (-1, 1)]
    return ends[0], ends[1]


class UprightInPlane(InvertibleTransform):
    """Swap and flip the first two spatial axes by `upright_turn`; the order of slices is kept. Invertible.

    The rows of NIfTI volumes of dcm2niix run towards anterior, so that the network would get heads upside down. Slices
    written by data_prep, pictures and DICOM slices are upright and are not changed.

    Shape:
        - input: (C, X, Y) or (C, X, Y, Z), a ``MetaTensor``; other tensors have no geometry and are returned unchanged
        - output: the same, or with X and Y swapped
    """

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        if not isinstance(img, MetaTensor):
            return img
        swap, flips = upright_turn(img.affine)
        shape = img.shape[1:]
        out = img.transpose(1, 2) if swap else img
        axes = [axis for axis, flip in enumerate(flips, 1) if flip]
        out = out.flip(axes) if axes else out
        info = {"swap": swap, "axes": axes}
        return self.push_transform(out, orig_size=shape, affine=_turn(out.shape, swap, axes), extra_info=info)

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        done = self.pop_transform(data)["extra_info"]
        out = data.flip(done["axes"]) if done["axes"] else data
        out = out.transpose(1, 2) if done["swap"] else out
        if isinstance(out, MetaTensor) and isinstance(data, MetaTensor):
            out.affine = data.affine @ torch.as_tensor(np.linalg.inv(_turn(data.shape, **done)))
        return out


def _turn(shape: Sequence[int], swap: bool, axes: Sequence[int]) -> np.ndarray:
    """(4, 4), from indices of the turned image, (C, X, Y, …), to those of the original."""
    turn = np.eye(4)
    for axis in axes:
        turn[axis - 1, axis - 1], turn[axis - 1, 3] = -1, shape[axis] - 1
    return turn[[1, 0, 2, 3]] if swap else turn


class UprightInPlaned(MapTransform, InvertibleTransform):
    """Dictionary form of `UprightInPlane`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.turner = UprightInPlane()

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.turner(out[key])
        return out

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.turner.inverse(out[key])
        return out
