"""Where the slices of a volume lie, and how much of the body each one stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["SliceStack"]

# Slices are neighbours as long as at most one slice is missing between them, by the usual distance of slices.
WIDEST_GAP = 2.1


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Geometry of the slices of an image.

    Attributes:
        affine: (4, 4), indices to RAS+ in mm; its third column is the usual step from slice to slice.
        positions: (Z,), where each slice lies along the slices' normal, in mm from the first; NaN for a single slice
            whose thickness is not known.
        thickness: (Z,), mm of the body that each slice stands for: half the distance to either neighbour, and half the
            usual distance where there is none, or where more than one slice is missing.
        linked: (Z - 1,), whether a slice and the next one are neighbours: at most one is missing between them.
        in_mm: whether the size of a pixel is known.
    """

    affine: np.ndarray
    positions: np.ndarray
    thickness: np.ndarray
    linked: np.ndarray
    in_mm: bool

    @classmethod
    def of(cls, meta: Mapping[str, Any], slices: int) -> SliceStack:
        """The geometry of an image that was read, or of its mask.

        Args:
            meta: metadata of `monai_kd.inference.read_image`: ``spacing`` ((3,), mm, NaN where it is not known),
                ``original_affine`` (4 × 4; without it, the axes of the image are those of the body), and of unevenly
                spaced slices ``slice_positions`` ((slices,), mm).
            slices: how many there are.

        Example:
            >>> meta = {"original_affine": np.eye(4), "spacing": np.ones(3), "slice_positions": [0.0, 1, 2, 4, 9, 10]}
            >>> stack = SliceStack.of(meta, 6)
            >>> stack.thickness, stack.linked
            (array([1. , 1. , 1.5, 1.5, 1. , 1. ]), array([ True,  True,  True, False,  True]))
        """
        spacing = np.asarray(meta["spacing"], dtype=float)
        along_axes = np.diag([*np.where(np.isnan(spacing), 1, spacing), 1])
        affine = np.asarray(meta.get("original_affine", along_axes), dtype=float)
        # Between slices that are tilted against their normal, the step is longer than the distance.
        area = np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1]))
        step = np.nan if np.isnan(spacing[2]) else abs(float(np.linalg.det(affine[:3, :3]))) / float(area)
        given = meta.get("slice_positions")
        positions = np.arange(slices) * step if given is None else np.asarray(given, dtype=float)
        gaps = np.diff(positions)
        usual = step if given is None or not len(gaps) else float(np.median(gaps))
        # NaN, where nothing is known, compares false.
        linked = ~(gaps > WIDEST_GAP * usual)
        halves = np.concatenate([[usual], np.where(linked, gaps, usual), [usual]]) / 2
        return cls(affine, positions - positions[0], halves[:-1] + halves[1:], linked, not np.isnan(spacing[:2]).any())

    @property
    def pixel_mm2(self) -> float:
        """Area of a pixel."""
        return float(np.linalg.norm(np.cross(self.affine[:3, 0], self.affine[:3, 1])))

    @property
    def in_plane(self) -> np.ndarray:
        """(2, 2), columns and rows to mm, in orthogonal axes of the plane of the slices."""
        return np.linalg.qr(self.affine[:3, :2])[1]

    def point(self, index: np.ndarray) -> np.ndarray:
        """(3,), RAS+ in mm, of column, row and slice, which may lie between those of the image."""
        spot = self.affine @ [index[0], index[1], 0, 1]
        normal = np.cross(self.affine[:3, 0], self.affine[:3, 1])
        step = self.affine[:3, 2]
        along = float(np.interp(index[2], np.arange(len(self.positions)), self.positions))
        return spot[:3] + along / abs(float(step @ normal / np.linalg.norm(normal))) * step
