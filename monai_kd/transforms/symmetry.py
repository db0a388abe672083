"""The midline of a head: the line in which an axial or coronal slice is nearly its own mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

__all__ = ["Midline", "find_midline"]

# The search, from coarse to fine: side of the reduced slice, and the tilts (degrees) and offsets (halves of the height)
# that are tried around the best ones so far.
_SEARCH = (
    (32, torch.deg2rad(torch.linspace(-16, 16, 9)), torch.linspace(-0.25, 0.25, 11)),
    (64, torch.deg2rad(torch.linspace(-2, 2, 5)), torch.linspace(-0.03, 0.03, 5)),
)


@dataclass(frozen=True)
class Midline:
    """A line in a slice, nearly parallel to the second axis, and how well the slice is mirrored in it.

    Args:
        tilt: angle between the line and the second axis, in radians.
        offset: signed distance of the line from the middle of the slice, in halves of its side; positive towards
            higher indices of the first axis.
        similarity: correlation of the local contrast of both halves, -1 … 1. Of 48 slices of the Figshare data it is
            0.57 to 0.90 in the axial and coronal ones, and 0.22 to 0.50 in the sagittal ones.
    """

    tilt: float
    offset: float
    similarity: float = 1.0

    def reflect(self, image: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
        """The slice mirrored in the line; what lies beyond the border repeats the border.

        Args:
            image: the slice.
            mode: ``"bilinear"``, or ``"nearest"`` for masks.

        Shape:
            - input and output: (C, H, W), float
        """
        parameters = torch.tensor([[self.tilt, self.offset]])
        return _reflections(image[None], parameters, mode)[0]

    def distance(self, shape: Sequence[int]) -> torch.Tensor:
        """Signed distance of every pixel of (H, W) from the line, in pixels; positive towards higher first indices."""
        first, second = ((torch.arange(side) + 0.5) * 2 / side - 1 for side in shape)
        tilt = torch.tensor(self.tilt)
        return (first[:, None] * tilt.cos() + second * tilt.sin() - self.offset) * shape[0] / 2


def _reflections(image: torch.Tensor, parameters: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Mirror images of (1, C, H, W) in N lines given by their tilts and offsets, (N, 2): (N, C, H, W)."""
    tilts, offsets = parameters.unbind(1)
    # In the coordinates of grid_sample, x along the second axis and y along the first: the unit normal of the line,
    # n = (sin, cos); a point p is mirrored to p − 2 (p · n − offset) n.
    normal = torch.stack([tilts.sin(), tilts.cos()], 1)
    count, size = len(parameters), image.shape[1:]
    rows, columns = ((torch.arange(side) + 0.5) * 2 / side - 1 for side in size[1:])
    across, along = (each[:, None, None] for each in normal.unbind(1))
    # Twice as quick as affine_grid, which multiplies matrices.
    twice = 2 * (across * columns + along * rows[:, None] - offsets[:, None, None])
    grid = torch.stack([columns - twice * across, rows[:, None] - twice * along], 3).to(image)
    return functional.grid_sample(
        image.expand(count, *size), grid, mode=mode, padding_mode="border", align_corners=False
    )


def find_midline(image: torch.Tensor, mask: torch.Tensor | None = None) -> Midline:
    """The line in which a slice is most similar to its mirror image.

    Args:
        image: an upright slice: left and right along the first axis.
        mask: pixels that are not compared, such as a tumour, where not 0.

    Shape:
        - image: (H, W), or (C, H, W), of which the first channel is used
        - mask: (H, W) or (1, H, W)

    Example:
        >>> image = torch.zeros(64, 64)
        >>> image[20:30, 20:40] = image[50:60, 20:40] = 1  # symmetric in row 40, which is 8 / 32 from the middle
        >>> round(find_midline(image).offset, 1)
        0.2
    """
    plane = (image if image.ndim == 2 else image[0]).float()
    left_out = torch.zeros_like(plane) if mask is None else (mask != 0).float().reshape(plane.shape)
    best, score = torch.zeros(2), torch.tensor(0.0)
    for side, tilts, offsets in _SEARCH:
        small, ignored = (
            functional.interpolate(each[None, None], (side, side), mode="area") for each in (plane, left_out)
        )
        weight = 1 - ignored
        around = [
            functional.avg_pool2d(each, side // 8 + 1, 1, side // 16, count_include_pad=False)
            for each in (weight * small, weight)
        ]
        # Local contrast: two heads with the same outline are similar whatever they show.
        contrast = small - around[0] / around[1].clamp(min=1e-6)
        tried = best + torch.cartesian_prod(tilts, offsets)
        mirrored, mirrored_weight = _reflections(torch.cat([contrast, weight], 1), tried).split(1, dim=1)
        weights = weight * mirrored_weight
        product = (weights * contrast * mirrored).sum((1, 2, 3))
        squares = [(weights * each.square()).sum((1, 2, 3)) for each in (contrast, mirrored)]
        similarity = product / (squares[0] * squares[1]).sqrt().clamp(min=1e-12)
        score, index = similarity.max(0)
        best = tried[index]
    return Midline(float(best[0]), float(best[1]), float(score))
