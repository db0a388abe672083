"""Where the slices of DICOM files lie, and whether they form a volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .dicom_values import header_number, header_numbers
from .unreadable import UnreadableImage

__all__ = ["geometry", "in_order", "uneven_positions", "unplaced"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Gaps between slices may differ by this fraction of the median gap, because positions in headers are rounded.
GAP_TOLERANCE = 0.1
# Of the orthonormality of the axes, because direction cosines in headers are rounded.
ORIENTATION_TOLERANCE = 0.01


def geometry(slices: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Affine, 4 × 4, from indices to RAS+ in mm, and spacing, (3,) in mm, see `monai_kd.io.dicom.read_slices`."""
    first, last = slices[0], slices[-1]
    directions = _directions(first)
    in_plane = header_numbers(first, "PixelSpacing", 2)
    row_spacing, column_spacing = (np.nan, np.nan) if in_plane is None or (in_plane <= 0).any() else in_plane
    position = header_numbers(first, "ImagePositionPatient", 3)
    if len(slices) > 1:
        whole, uneven = _position(last) - _position(first), uneven_positions(slices)
        # Of uneven slices the usual step: the median distance, along the line on which they lie.
        share = 1 / (len(slices) - 1) if uneven is None else float(np.median(np.diff(uneven)) / uneven[-1])
        step = whole * share
        depth = float(np.linalg.norm(step))
    else:
        depth = header_number(first, "SpacingBetweenSlices", "SliceThickness")
        step = directions[2] * (1.0 if np.isnan(depth) else depth)
    spacing = np.array([column_spacing, row_spacing, depth])
    affine = np.eye(4)
    # PixelSpacing has the distance of rows first and that of columns second.
    affine[:3, 0] = directions[0] * (1.0 if np.isnan(column_spacing) else column_spacing)
    affine[:3, 1] = directions[1] * (1.0 if np.isnan(row_spacing) else row_spacing)
    affine[:3, 2] = step
    affine[:3, 3] = 0.0 if position is None else position
    return LPS_TO_RAS @ affine, spacing


def in_order(slices: list[Any]) -> list[Any]:
    """Check that the slices belong together, and put them in the order of their positions, which may have gaps."""
    first = slices[0]
    for name in ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID", "PhotometricInterpretation"):
        if len({str(each.get(name, "")) for each in slices}) > 1:
            raise UnreadableImage(f"the slices of the series differ in {name}: they do not form one volume")
    for name, count in (("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        wanted = header_numbers(first, name, count)
        for each in slices:
            value = header_numbers(each, name, count)
            same = value is wanted if value is None or wanted is None else np.allclose(value, wanted, atol=1e-3)
            if not same:
                raise UnreadableImage(f"the slices of the series differ in {name}: they make no volume")
    if len({(each.get("Rows"), each.get("Columns")) for each in slices}) > 1:
        raise UnreadableImage("the slices of the series differ in size: they make no volume")
    if header_numbers(first, "ImageOrientationPatient", 6) is None:
        raise UnreadableImage("slices of the series have no ImageOrientationPatient: their order is not known")
    positions, directions = np.stack([_position(each) for each in slices]), _directions(first)
    along = positions @ directions[2]
    order = np.argsort(along)
    gaps = np.diff(along[order])
    if gaps.min() < 1e-3:
        raise UnreadableImage(
            "the series has several slices at one position (echoes, phases?): they do not form one volume"
        )
    usual = float(np.median(gaps))
    # Slices of a tilted series lie on a line that is not the normal; off one line they do not form a grid of voxels.
    placed = positions[order]
    share = (along[order] - along.min()) / (along.max() - along.min())
    line = placed[0] + share[:, None] * (placed[-1] - placed[0])
    shift = float(np.linalg.norm((placed - line) @ directions[:2].T, axis=1).max())
    if shift > GAP_TOLERANCE * usual:
        raise UnreadableImage(f"the slices are shifted sideways against each other, by up to {shift:.2f} mm")
    return [slices[index] for index in order]


def uneven_positions(slices: Sequence[Any]) -> np.ndarray | None:
    """Where the slices of a series lie along their normal, in mm from the first, if they are not evenly spaced.

    Args:
        slices: of `dicom_slices`.

    Returns:
        (slices,), increasing; ``None`` where all distances are the same up to `GAP_TOLERANCE`.
    """
    if len(slices) < 2:
        return None
    along = np.stack([_position(each) for each in slices]) @ _directions(slices[0])[2]
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    return None if np.abs(gaps - usual).max() <= GAP_TOLERANCE * usual else along - along[0]


def unplaced(slices: Sequence[Any]) -> str:
    """Which header values of a single slice are missing, without which its position is not known, by their names.

    `read_slices` then takes it as an axial slice, or as one that begins at the origin. Slices of a volume have them.
    """
    names = {"ImageOrientationPatient": 6, "ImagePositionPatient": 3}
    return " and ".join(name for name, count in names.items() if header_numbers(slices[0], name, count) is None)


def _directions(data: Any) -> np.ndarray:
    """Unit vectors of increasing column, row and slice, as the rows of (3, 3), in LPS."""
    cosines = header_numbers(data, "ImageOrientationPatient", 6)
    along = np.eye(3)[:2] if cosines is None else cosines.reshape(2, 3)
    if not np.allclose(along @ along.T, np.eye(2), atol=ORIENTATION_TOLERANCE):
        raise UnreadableImage(f"{data.source_name} has an ImageOrientationPatient whose axes are not orthonormal")
    normal = np.cross(*along)
    return np.stack([*along, normal / np.linalg.norm(normal)])


def _position(data: Any) -> np.ndarray:
    """Of a slice of several, in LPS."""
    position = header_numbers(data, "ImagePositionPatient", 3)
    if position is None:
        raise UnreadableImage("slices of the series have no ImagePositionPatient: their order is not known")
    return position
