"""Labels on the pixels of their image."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..data.spacing import has_geometry
from .masks import file_of
from .upright import upright_turn

__all__ = ["SameGridd"]

_WAY_OUT = "Save the label on the grid of the image, with its affine"


class SameGridd(MapTransform):
    r"""Bring labels to the grid of their image where only axes are permuted or flipped; refuse what lies elsewhere.

    Let :math:`A_i` and :math:`A_l` be the affines of image and label, from indices to mm. With
    :math:`T = A_i^{-1} A_l`, from indices of the label to those of the image:

    - :math:`T` is the identity: the label stays as it is, bit by bit;
    - :math:`T` permutes and flips axes and maps the grids onto each other: the label is permuted and flipped;
    - otherwise the label is refused.

    Pictures (PNG, JPEG) do not record a geometry: where neither file does, sizes must agree. Where one does, it must
    also lie as a viewer shows it (`upright_turn`): otherwise it can't be known how the other lies.

    Use it when both were loaded, before they are turned or resized. The label then has the affine of the image.

    Args:
        keys: labels.
        reference: the image.
        tolerance: how far, in pixels, a pixel may lie from its place, for affines that were rounded.

    Shape:
        - image: (C, H, W) or (C, H, W, D)
        - labels: the same size, or with axes permuted; an axis of length 1 at the end may be there or not.
        - output: labels of the size of the image.

    Raises:
        ValueError: when called: the label does not lie on the pixels of the image; the message names both files.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reference: str = "image",
        tolerance: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.reference, self.tolerance = reference, float(tolerance)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        image = out[self.reference]
        for key in self.key_iterator(out):
            label = out[key]
            names = file_of(label, f"'{key}'"), file_of(image, f"'{self.reference}'")
            # A slice is a stack of one.
            stack = label if label.ndim == 4 else label[..., None]
            size = tuple(image.shape[1:]) + (1,) * (4 - image.ndim)
            placed = [each for each in (label, image) if isinstance(each, MetaTensor) and has_geometry(each)]
            if len(placed) == 2:
                stack = self._reoriented(stack, placed[0].affine, placed[1].affine, size, names)
            elif tuple(stack.shape[1:]) != size:
                raise ValueError(_sizes(names, stack.shape[1:], size))
            elif placed:
                _check_upright(placed[0], names)
            stack = stack if image.ndim == 4 else stack[..., 0]
            if isinstance(stack, MetaTensor) and isinstance(image, MetaTensor):
                # Equal, so that what follows turns both alike.
                stack = stack.clone()
                stack.affine = image.affine.clone()
            out[key] = stack
        return out

    def _reoriented(
        self,
        stack: torch.Tensor,
        of_label: torch.Tensor,
        of_image: torch.Tensor,
        size: Sequence[int],
        names: tuple[str, str],
    ) -> torch.Tensor:
        steps = np.linalg.solve(np.asarray(of_image, dtype=float), np.asarray(of_label, dtype=float))
        axes = nib.io_orientation(steps)
        if np.isnan(axes).any():
            raise ValueError(f"{names[0]} has axes without direction beside those of {names[1]}. {_WAY_OUT}.")
        steps = steps @ nib.orientations.inv_ornt_aff(axes, stack.shape[1:])
        turned = stack.flip([axis + 1 for axis in range(3) if axes[axis, 1] < 0 and stack.shape[axis + 1] > 1])
        turned = turned.permute(0, *(int(axis) + 1 for axis in np.argsort(axes[:, 0])))
        if tuple(turned.shape[1:]) != tuple(size):
            raise ValueError(_sizes(names, turned.shape[1:], size))
        if (away := _displacement(steps, size)) > self.tolerance:
            raise ValueError(
                f"{names[0]} has the size of {names[1]}, but lies up to {away:.3g} pixels beside it by its affine. "
                f"{_WAY_OUT}, or correct the wrong one of the two."
            )
        return turned


def _displacement(steps: np.ndarray, size: Sequence[int]) -> float:
    """How far, in pixels, an affine moves a pixel of a grid at most; that is at one of its corners."""
    corners = np.array([*itertools.product(*((0, length - 1) for length in size))], dtype=float)
    return float(np.abs(nib.affines.apply_affine(steps, corners) - corners).max())


def _sizes(names: tuple[str, str], of_label: Sequence[int], of_image: Sequence[int]) -> str:
    label, image = (
        " × ".join(map(str, size[:2] if size[2:] == (1,) else size)) for size in map(tuple, (of_label, of_image))
    )
    return f"{names[0]} has {label} pixels, and {names[1]} has {image}. {_WAY_OUT}."


def _check_upright(placed: MetaTensor, names: tuple[str, str]) -> None:
    swap, flips = upright_turn(placed.affine)
    if swap or any(flips):
        raise ValueError(
            f"{names[0]} and {names[1]}: one of them does not record its orientation, and the other is not stored as "
            f"viewers show it, so that they can't be put together. {_WAY_OUT}, as NIfTI."
        )
