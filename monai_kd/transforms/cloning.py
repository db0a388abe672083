"""Replacement of a region of a slice by other tissue of the same slice, without a seam."""

from __future__ import annotations

import torch
from torch.nn import functional

__all__ = ["clone", "dilate", "similar_places"]

# Places are sought in a slice reduced to this side, and at most this many are returned.
_SIDE, _PLACES = 64, 8

# Largest mean squared difference between the surroundings of two places, as a sum of two parts: of the variance of one,
# in which two independent places differ by about 2, and seams show, by eye, from 1.4 on; and, for uniform tissue with
# noise, of the variance of the slice.
_UNLIKE, _FAINT = 1.3, 0.04


def dilate(mask: torch.Tensor, pixels: int) -> torch.Tensor:
    """A mask grown by a square of ``2 · pixels + 1``.

    Shape:
        - input and output: (H, W), bool
    """
    out = torch.zeros_like(mask)
    # Only around the mask, which is small in most slices.
    occupied = [mask.any(axis).nonzero().flatten().tolist() for axis in (1, 0)]
    if occupied[0]:
        within = tuple(slice(max(0, at[0] - pixels), at[-1] + pixels + 1) for at in occupied)
        side = 2 * pixels + 1
        rows = functional.max_pool2d(mask[within][None].float(), (side, 1), 1, (pixels, 0))
        out[within] = functional.max_pool2d(rows, (1, side), 1, (0, pixels))[0] > 0
    return out


def _shade(difference: torch.Tensor, ring: torch.Tensor) -> torch.Tensor:
    """Values on the ring, (C, H, W), interpolated smoothly to all pixels: means weighted by the distance to the -3."""
    height, width = ring.shape
    # Where skull meets brain on the ring, the shade would glow like an enhancing tumour: large differences count less.
    size = difference[0][ring].abs()
    doubt = 1 / (1 + (difference[0] / (2 * size.median() + 1e-3 * size.max() + 1e-9)).square())
    ring = ring * doubt
    axes = [torch.fft.fftfreq(2 * side, 1 / (2 * side)) for side in (height, width)]
    kernel = (axes[0][:, None].square() + axes[1].square() + 1).pow(-1.5)
    stack = torch.cat([difference * ring, ring[None]])
    padded = (2 * height, 2 * width)
    sums = torch.fft.irfft2(torch.fft.rfft2(stack, s=padded) * torch.fft.rfft2(kernel), s=padded)[:, :height, :width]
    return sums[:-1] / sums[-1:].clamp(min=1e-9)


def clone(image: torch.Tensor, source: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """The image with the source in its region, shaded so that both agree around it.

    The difference on a ring around the region is interpolated smoothly into it and added to the source, as in
    mean-value cloning (Farbman et al., "Coordinates for instant image cloning", 2009), which is close to Poisson image
    editing (Pérez et al. 2003) and needs no linear system. Texture and noise are those of the source. At the border,
    both are mixed over a few pixels.

    Args:
        image: the slice.
        source: what the region is replaced by, pixel by pixel.
        region: which pixels are replaced.

    Shape:
        - image, source and output: (C, H, W), float
        - region: (H, W), bool

    Example:
        >>> region = torch.zeros(16, 16, dtype=torch.bool)
        >>> region[5:9, 5:9] = True
        >>> image = torch.full((1, 16, 16), 0.5)
        >>> torch.allclose(clone(image, image + 2, region), image)  # a difference in brightness is no seam
        True
    """
    if not region.any():
        return image
    width = max(1, max(region.shape) // 128)
    rows, columns = (
        slice(max(0, int(at.min()) - 4 * width), int(at.max()) + 4 * width + 1) for at in region.nonzero().unbind(1)
    )
    here, region = image[:, rows, columns], region[rows, columns]
    replaced = source[:, rows, columns]
    ring = dilate(region, 2 * width) & ~region
    shaded = replaced + _shade(here - replaced, ring)
    blend = dilate(region, width)[None].float()
    blend = functional.avg_pool2d(blend, 2 * width + 1, 1, width, count_include_pad=False)
    lowest, highest = image.amin((1, 2), keepdim=True), image.amax((1, 2), keepdim=True)
    out = image.clone()
    out[:, rows, columns] += blend * (shaded.clamp(lowest, highest) - here)
    return out


def similar_places(image: torch.Tensor, region: torch.Tensor, forbidden: torch.Tensor) -> list[tuple[int, int]]:
    """Shifts to places whose surroundings resemble those of a region, the most similar first.

    The surroundings are the pixels on a ring around the region and around the shifted region; half of the difference in
    their means does not count, since `clone` removes it. Places with uniform tissue of the brightness of the ring are
    preferred: bone or air is not put into the brain.

    Args:
        image: one channel of the slice.
        region: the region, such as a tumour.
        forbidden: pixels that the shifted region must not cover.

    Returns:
        Up to 8 shifts along both axes, in pixels, by which the region stays in the slice; none if no free place is
        similar.

    Shape:
        - image: (H, W), float
        - region and forbidden: (H, W), bool
    """
    height, width = image.shape
    small = functional.interpolate(image[None, None], (_SIDE, _SIDE), mode="area")[0, 0]
    covered, barred = (
        functional.adaptive_max_pool2d(each[None].float(), (_SIDE, _SIDE))[0] > 0 for each in (region, forbidden)
    )
    ring = (dilate(covered, 2) & ~covered).float()

    def correlate(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        # At [s], the sum over p of one[p] · other[p + s]; doubled, so that nothing comes in from the other side.
        size = (2 * _SIDE, 2 * _SIDE)
        return torch.fft.irfft2(torch.fft.rfft2(one, s=size).conj() * torch.fft.rfft2(other, s=size), s=size)

    count, inside = ring.sum().clamp(min=1), torch.ones_like(small)
    total, power = (ring * small).sum(), (ring * small.square()).sum()
    offset = (total - correlate(ring, small)) / count
    cost = (power - 2 * correlate(ring * small, small) + correlate(ring, small.square())) / count
    cost -= 0.5 * offset.square()
    area, level = covered.float(), total / count
    # The ring may leave the slice: what lies beyond counts as 0, which is how air looks.
    free = (correlate(area, barred.float()) < 0.5) & (correlate(area, inside) > area.sum() - 0.5)
    free &= cost <= _UNLIKE * (power / count - level.square()) + _FAINT * small.var()
    inner = correlate(area, small.square()) - 2 * level * correlate(area, small)
    cost += 0.5 * (inner / area.sum().clamp(min=1) + level.square())
    values, indices = torch.where(free, cost, torch.inf).flatten().topk(_PLACES, largest=False)
    shifts = []
    for index in indices[values < torch.inf].tolist():
        first, second = ((step + _SIDE) % (2 * _SIDE) - _SIDE for step in divmod(index, 2 * _SIDE))
        shifts.append((round(first * height / _SIDE), round(second * width / _SIDE)))
    return shifts
