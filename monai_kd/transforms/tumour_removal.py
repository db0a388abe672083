"""Slices without a tumour, made of slices with one."""

from __future__ import annotations

import numpy as np
import torch

from .cloning import clone, dilate, similar_places
from .symmetry import Midline, find_midline

__all__ = ["operate_elsewhere", "remove_tumour"]

# Smallest similarity of both halves of a symmetric view, see `Midline`: axial or coronal.
_SYMMETRIC = 0.6
# Radius of the region of `operate_elsewhere`, as a fraction of the height: the tumours of the Figshare data.
_RADIUS = (0.03, 0.1)

Operated = tuple[torch.Tensor, torch.Tensor]


def remove_tumour(image: torch.Tensor, label: torch.Tensor, random: np.random.RandomState) -> Operated | None:
    """The slice without its tumour, and an empty label.

    The mask is grown by 1/64 of the side. In symmetric views, axial and coronal, see `find_midline`, the slice becomes
    its half without tumour and the mirror image of this half, or the grown mask is replaced by the mirrored other half,
    by chance, see `clone`. Where the mirrored place holds tumour too, and in other views, it is replaced by a place of
    the slice whose surroundings are similar, see `similar_places`.

    Args:
        image: an upright slice, left and right along the first axis. The first channel is compared.
        label: its mask, tumour where not 0.
        random: source of the choices between the methods and between similar places.

    Returns:
        Image and label; ``None`` where no method applies, as where the tumour takes most of the brain.

    Shape:
        - image and output: (C, H, W), float
        - label and output: (L, H, W)
    """
    tumour = label.ne(0).any(0)
    if not tumour.any():
        return image, torch.zeros_like(label)
    region = _grown(tumour)
    midline = _midline_of(image, tumour)
    parts = None if midline is None or random.rand() < 0.5 else _sides(midline, region)
    if midline is not None and parts is not None:
        return _from_one_half(image, label, midline, parts[1])[0], torch.zeros_like(label)
    filled = _fill(image, region, region, midline, random)
    return None if filled is None else (filled, torch.zeros_like(label))


def operate_elsewhere(image: torch.Tensor, label: torch.Tensor, random: np.random.RandomState) -> Operated | None:
    """The slice after the operations of `remove_tumour`, at a place that leaves it its tumour.

    So that traces of the operations are no sign that there is no tumour. A disc without tumour is replaced, or the
    slice becomes its half with the tumour and the mirror image of this half, with its label.

    Args:
        image, label, random: as for `remove_tumour`.

    Returns:
        Image and label; ``None`` where there is no such place.

    Shape:
        - as for `remove_tumour`
    """
    tumour = label.ne(0).any(0)
    region = _grown(tumour)
    midline = _midline_of(image, tumour)
    parts = None if midline is None or not tumour.any() or random.rand() < 0.5 else _sides(midline, region)
    if midline is not None and parts is not None:
        return _from_one_half(image, label, midline, parts[0])
    disc = _free_disc(image[0], region, random)
    filled = None if disc is None else _fill(image, disc, disc | region, midline, random)
    return None if filled is None else (filled, label)


def _grown(tumour: torch.Tensor) -> torch.Tensor:
    return dilate(tumour, max(1, max(tumour.shape) // 64))


def _midline_of(image: torch.Tensor, tumour: torch.Tensor) -> Midline | None:
    midline = find_midline(image, tumour)
    return midline if midline.similarity >= _SYMMETRIC else None


def _sides(midline: Midline, region: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Signed distances, positive on the side of the region, and on the other side; None if the region is on both."""
    distance = midline.distance(region.shape)
    inside = distance[region]
    if inside.amin() < 0 < inside.amax():
        return None
    return (distance, -distance) if inside.amin() >= 0 else (-distance, distance)


def _from_one_half(image: torch.Tensor, label: torch.Tensor, midline: Midline, side: torch.Tensor) -> Operated:
    """The half where ``side`` is positive, and its mirror image on the other side; mixed over 2 pixels each way."""
    blend = (0.5 - side / 4).clamp(0, 1)
    mirrored = _mirrored(image, midline)
    other = midline.reflect(label.float(), "nearest").to(label)
    return image + blend * (mirrored - image), torch.where(side < 0, other, label)


def _mirrored(image: torch.Tensor, midline: Midline) -> torch.Tensor:
    # Linear interpolation would smooth the noise, which gives the place away.
    return midline.reflect(image, "bicubic").clamp(image.amin(), image.amax())


def _fill(
    image: torch.Tensor,
    region: torch.Tensor,
    forbidden: torch.Tensor,
    midline: Midline | None,
    random: np.random.RandomState,
) -> torch.Tensor | None:
    if midline is not None and not (midline.reflect(forbidden[None].float(), "nearest")[0].bool() & region).any():
        return clone(image, _mirrored(image, midline), region)
    places = similar_places(image[0], region, forbidden)
    if not places:
        return None
    first, second = places[random.randint(len(places))]
    return clone(image, torch.roll(image, (-first, -second), (1, 2)), region)


def _free_disc(plane: torch.Tensor, taken: torch.Tensor, random: np.random.RandomState) -> torch.Tensor | None:
    """A disc in the head that does not touch what is taken; None if twenty tries find none."""
    height, width = plane.shape
    head = (plane > plane.mean()).nonzero()
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    for _ in range(20 if len(head) else 0):
        radius = random.uniform(*_RADIUS) * height
        first, second = head[random.randint(len(head))].tolist()
        within = radius <= first < height - radius and radius <= second < width - radius
        disc = (rows - first).square() + (columns - second).square() <= radius**2
        if within and not (disc & taken).any():
            return disc
    return None
