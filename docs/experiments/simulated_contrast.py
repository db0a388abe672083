"""Draw what a contrast agent brightens into a T1-weighted head of the MNI space, such as `ch2.nii.gz` of MRIcron.

    python docs/experiments/simulated_contrast.py ch2.nii.gz ch2_contrast.nii.gz [--seed 0]

Venous sinuses, large vessels, some veins of the surface, pituitary gland with cavernous sinuses, choroid plexus, pineal
gland, falx and the mucosa of the nose. Tubes and ellipsoids at rounded coordinates, in mm, of the brain of that space,
so that they fit no other head. Each gets the grey value of white matter times 1.4 to 1.9, at random, the mucosa times
1.2, with soft edges.
It is a drawing for networks to learn from that bright structures at these places are no tumour, and no more than that.
"""

from __future__ import annotations

import argparse
import itertools

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

MIDLINE = {
    # Name: points (x, y, z) and radius, in mm.
    "superior sagittal sinus": (
        [(0, 68, 8), (0, 66, 25), (0, 58, 42), (0, 42, 58), (0, 20, 70), (0, -5, 78), (0, -30, 80), (0, -55, 74),
         (0, -78, 58), (0, -95, 38), (0, -104, 18), (0, -105, 0), (0, -99, -13)],
        3.5,
    ),
    "straight sinus": ([(0, -42, 6), (0, -60, 4), (0, -80, -4), (0, -99, -13)], 2.5),
    "basilar artery": ([(0, -22, -48), (0, -17, -32), (0, -15, -18)], 1.8),
    "pituitary stalk": ([(0, -1, -20), (0, 1, -28)], 1.2),
}  # fmt: skip
PAIRED = {
    "transverse and sigmoid sinus": (
        [(0, -99, -13), (30, -90, -22), (52, -66, -26), (55, -46, -33), (46, -36, -48), (30, -34, -60)],
        3.2,
    ),
    "internal cerebral vein": ([(1, -42, 6), (3, -28, 15), (4, -8, 16), (5, 2, 14)], 1.3),
    "carotid artery": ([(26, -28, -46), (22, -18, -34), (13, -5, -30), (13, 5, -26), (13, 2, -18)], 2.2),
    "middle cerebral artery": ([(13, 2, -18), (26, 4, -20), (40, 4, -18), (48, -6, 0)], 1.5),
    "anterior cerebral artery": ([(10, 4, -16), (3, 18, -12), (3, 34, 2), (3, 30, 18)], 1.2),
    "choroid plexus": ([(8, -6, 20), (16, -28, 20), (25, -42, 10), (30, -32, -8)], 2.2),
}
ELLIPSOIDS = {
    # Name: centre and half axes, in mm.
    "pituitary gland": ([(0, 2, -31)], (6.0, 4.5, 3.5)),
    "cavernous sinus": ([(-13, -2, -30), (13, -2, -30)], (4.0, 9.0, 5.0)),
    "plexus of the trigone": ([(-25, -42, 10), (25, -42, 10)], (3.5, 6.0, 4.0)),
    "pineal gland": ([(0, -30, 2)], (2.5, 3.5, 2.5)),
}


def tube(millimetres: np.ndarray, points: np.ndarray, radius: float) -> np.ndarray:
    """Whether each place, (x, y, z, 3), is within ``radius`` of the line through ``points``."""
    inside = np.zeros(millimetres.shape[:-1], bool)
    low, high = points.min(0) - radius - 1, points.max(0) + radius + 1
    box = ((millimetres >= low) & (millimetres <= high)).all(-1)
    places = millimetres[box]
    near = np.full(len(places), np.inf)
    for start, end in itertools.pairwise(points):
        along = end - start
        share = np.clip((places - start) @ along / (along @ along), 0, 1)
        near = np.minimum(near, np.linalg.norm(places - start - share[:, None] * along, axis=1))
    inside[box] = near <= radius
    return inside


def surface_vein(rng: np.random.Generator) -> np.ndarray:
    """Points of a vein that runs from the upper midline down over the brain, as an ellipsoid."""
    side, slope, length = rng.choice([-1, 1]), rng.uniform(-0.5, 0.5), rng.uniform(0.4, 1.2)
    down = np.linspace(0.05, length, 8) * side
    front = rng.uniform(-0.7, 0.7) + slope * np.abs(down) + np.cumsum(rng.normal(0, 0.03, 8))
    unit = np.stack([np.sin(down) * np.cos(front), np.sin(front), np.cos(down) * np.cos(front)], 1)
    return unit * (66, 85, 72) + (0, -18, 4)


def brightened(volume: np.ndarray, affine: np.ndarray, seed: int) -> np.ndarray:
    """``volume``, (x, y, z) in the MNI space, with these structures."""
    rng = np.random.default_rng(seed)
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in volume.shape), indexing="ij"), -1)
    millimetres = voxels @ affine[:3, :3].T + affine[:3, 3]
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))
    # The most frequent value of the brain's middle is that of white matter.
    middle = volume[np.abs(millimetres - (0, -20, 25)).max(-1) < 30]
    counts, edges = np.histogram(middle[middle > 0.3 * np.percentile(middle, 95)], 60)
    white = edges[counts.argmax() : counts.argmax() + 2].mean()
    shapes = [tube(millimetres, np.array(points, float), radius) for points, radius in MIDLINE.values()]
    for points, radius in PAIRED.values():
        shapes += [tube(millimetres, np.array(points, float) * (side, 1, 1), radius) for side in (-1, 1)]
    for centres, axes in ELLIPSOIDS.values():
        shapes.append(sum((((millimetres - c) / axes) ** 2).sum(-1) <= 1 for c in centres) > 0)
    shapes += [tube(millimetres, surface_vein(rng), rng.uniform(0.8, 1.6)) for _ in range(24)]
    x, y, z = np.moveaxis(millimetres, -1, 0)
    hull = (x / 66) ** 2 + ((y + 18) / 86) ** 2 + ((z - 4) / 74) ** 2 < 1
    outside_callosum = ((y + 10) / 48) ** 2 + ((z - 2) / 36) ** 2 > 1
    shapes.append((np.abs(x) < 0.8) & hull & outside_callosum & (z > 0))
    result = volume.astype(np.float64)
    # The mucosa of the nose: what is no air.
    nose = (np.abs(x) < 14) & (((y - 42) / 26) ** 2 + ((z + 46) / 20) ** 2 < 1) & (volume > 0.25 * white)
    for shape, brightness in [*((shape, rng.uniform(1.4, 1.9)) for shape in shapes), (nose, 1.2)]:
        share = gaussian_filter(shape.astype(np.float64), 0.6 / spacing)
        result += share * np.maximum(brightness * white - result, 0)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("head")
    parser.add_argument("enhanced")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    image = nib.load(given.head)
    if len(image.shape) != 3:
        parser.error(f"{given.head} has the shape {image.shape}; a volume has three dimensions.")
    result = brightened(np.asarray(image.dataobj), image.affine, given.seed)
    nib.save(nib.Nifti1Image(result.astype(np.float32), image.affine), given.enhanced)


if __name__ == "__main__":
    main()
