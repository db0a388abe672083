"""Labels on the pixel grid of their image."""

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

_REMEDY = "Save the label on the grid of the image, with its affine"


class SameGridd(MapTransform):
    r"""Permute and flip the axes of labels to the grid of their image; refuse labels on any other grid.

    Let :math:`A_i` and :math:`A_l` be the affines of image and label, from indices to mm. With
    :math:`T = A_i^{-1} A_l`, from indices of the label to those of the image:

    - :math:`T` is the identity: the label is returned unchanged;
    - :math:`T` permutes and flips axes and maps the grids onto each other: the label is permuted and flipped;
    - otherwise the label is refused.

    Pictures (PNG, JPEG) do not record a geometry. Where neither file does, the sizes must be equal. Where one does, it
    must also be stored upright (`upright_turn`), since the orientation of the other one is not known.

    Apply it after both are loaded, before they are turned or resized. The output has the affine of the image.

    Args:
        keys: keys of the labels.
        reference: key of the image.
        tolerance: the largest allowed distance, in pixels, between a pixel of the label and that of the image, for
            rounded affines.

    Shape:
        - image: (C, H, W) or (C, H, W, D)
        - labels: the same size, or with axes permuted; a last axis of length 1 may be present or absent
        - output: labels of the size of the image

    Raises:
        ValueError: when called: the label is not on the grid of the image; the message names both files.
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
            # A slice is treated as a stack of one slice.
            stack = label if label.ndim == 4 else label[..., None]
            size = tuple(image.shape[1:]) + (1,) * (4 - image.ndim)
            located = [each for each in (label, image) if isinstance(each, MetaTensor) and has_geometry(each)]
            if len(located) == 2:
                stack = self._reoriented(stack, located[0].affine, located[1].affine, size, names)
            elif tuple(stack.shape[1:]) != size:
                raise ValueError(_size_message(names, stack.shape[1:], size))
            elif located:
                _check_upright(located[0], names)
            stack = stack if image.ndim == 4 else stack[..., 0]
            if isinstance(stack, MetaTensor) and isinstance(image, MetaTensor):
                # With equal affines, later transforms turn image and label alike.
                stack = stack.clone()
                stack.affine = image.affine.clone()
            out[key] = stack
        return out

    def _reoriented(
        self,
        stack: torch.Tensor,
        label_affine: torch.Tensor,
        image_affine: torch.Tensor,
        size: Sequence[int],
        names: tuple[str, str],
    ) -> torch.Tensor:
        mapping = np.linalg.solve(np.asarray(image_affine, dtype=float), np.asarray(label_affine, dtype=float))
        axes = nib.io_orientation(mapping)
        if np.isnan(axes).any():
            raise ValueError(f"the axes of {names[0]} do not correspond to the axes of {names[1]}. {_REMEDY}.")
        mapping = mapping @ nib.orientations.inv_ornt_aff(axes, stack.shape[1:])
        turned = stack.flip([axis + 1 for axis in range(3) if axes[axis, 1] < 0 and stack.shape[axis + 1] > 1])
        turned = turned.permute(0, *(int(axis) + 1 for axis in np.argsort(axes[:, 0])))
        if tuple(turned.shape[1:]) != tuple(size):
            raise ValueError(_size_message(names, turned.shape[1:], size))
        if (distance := _displacement(mapping, size)) > self.tolerance:
            raise ValueError(
                f"{names[0]} has the size of {names[1]}, but by its affine it is up to {distance:.3g} pixels away from "
                f"it. {_REMEDY}, or correct the affine that is wrong."
            )
        return turned


def _displacement(mapping: np.ndarray, size: Sequence[int]) -> float:
    """The largest distance, in pixels along an axis, by which an affine moves a pixel; it occurs at a corner."""
    corners = np.array([*itertools.product(*((0, length - 1) for length in size))], dtype=float)
    return float(np.abs(nib.affines.apply_affine(mapping, corners) - corners).max())


def _size_message(names: tuple[str, str], label_size: Sequence[int], image_size: Sequence[int]) -> str:
    label, image = (
        " × ".join(map(str, size[:2] if size[2:] == (1,) else size)) for size in map(tuple, (label_size, image_size))
    )
    return f"{names[0]} has {label} pixels, and {names[1]} has {image}. {_REMEDY}."


def _check_upright(located: MetaTensor, names: tuple[str, str]) -> None:
    swap, flips = upright_turn(located.affine)
    if swap or any(flips):
        raise ValueError(
            f"{names[0]} and {names[1]}: one file does not record its orientation, and the other is not stored "
            f"upright, so that their pixels can't be matched. {_REMEDY}, as NIfTI."
        )
