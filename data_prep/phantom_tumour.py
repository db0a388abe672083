"""Synthetic tumours of three kinds, painted into a synthetic head.

Meningiomas are bright, even, and sit on the brain's surface with a broad base. Gliomas lie inside the brain, are larger
and irregular, with a bright ring, a dark core and a dark surrounding. Pituitary tumours are small, round, fairly bright
and always at the sella, in the middle of the skull base.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.phantom_head import Anatomy, Field, Head, inside

MENINGIOMA, GLIOMA, PITUITARY = 1, 2, 3
AREA = {MENINGIOMA: (0.008, 0.045), GLIOMA: (0.012, 0.055), PITUITARY: (0.005, 0.015)}  # shares of the image area
ANGLES = np.linspace(0, 2 * np.pi, 73)  # the last direction is the first one again
PICTURE = 4.0  # area of the image in head coordinates


@dataclass(frozen=True)
class Tumour:
    """One patient's tumour in head coordinates.

    `radius` is its shape by direction, (73,), `share` its largest share of the image area; the other fields are its
    intensities.
    """

    label: int
    x: float
    y: float
    radius: NDArray[np.float64]
    share: float
    bright: float
    core: float
    ring: float
    halo: float


def tumour(label: int, head: Anatomy, rng: np.random.Generator) -> Tumour:
    """A random tumour of one kind, at a position where that kind grows."""
    brain = head.brain
    # Upper part of the circle only in views with a face below: there is no dura to sit on at the bottom.
    angle = rng.uniform(0, 2 * np.pi) if head.view == "axial" else rng.uniform(1.02 * np.pi, 1.98 * np.pi)
    if label == PITUITARY:
        x, y = np.asarray(head.sella) + rng.normal(0, 0.012, 2)
        rough, squeeze = 0.03, rng.uniform(0.8, 1.25)
    else:
        depth = rng.uniform(0.8, 0.93) if label == MENINGIOMA else rng.uniform(0.25, 0.62)
        x, y = brain.x + brain.a * depth * np.cos(angle), brain.y + brain.b * depth * np.sin(angle)
        rough, squeeze = (0.04, rng.uniform(0.8, 1.25)) if label == MENINGIOMA else (0.11, rng.uniform(0.7, 1.4))
    turned = ANGLES - rng.uniform(0, np.pi)
    radius = 1 / np.sqrt((np.cos(turned) / squeeze) ** 2 + (np.sin(turned) * squeeze) ** 2)
    for k in range(2, 7):
        radius = radius * (1 + rough * rng.normal() * np.cos(k * ANGLES + rng.uniform(0, 2 * np.pi)) / np.sqrt(k - 1))
    bright = {MENINGIOMA: (0.5, 0.85), GLIOMA: (0.48, 0.8), PITUITARY: (0.46, 0.72)}[label]
    return Tumour(
        label=label,
        x=float(x),
        y=float(y),
        radius=radius,
        share=float(np.exp(rng.uniform(*np.log(AREA[label])))),
        bright=rng.uniform(*bright),
        core=rng.uniform(0.12, 0.3),
        ring=rng.uniform(0.16, 0.4),
        halo=rng.uniform(0.15, 0.45),
    )


def outline(t: Tumour, head: Anatomy, size_factor: float) -> NDArray[np.float64]:
    """Distance from the tumour's centre to its edge by direction (73,), cut off at the brain's surface.

    The area is `size_factor` times the tumour's share of the image, also where the brain's surface cuts a part off.
    """
    wanted = t.share * size_factor * PICTURE
    free = _room(t, head) if t.label != PITUITARY else np.full(ANGLES.size, np.inf)
    scale = np.sqrt(wanted / np.pi)
    for _ in range(12):
        edge = np.minimum(t.radius * scale, free)
        area = 0.5 * np.sum(edge[:-1] * edge[1:]) * np.sin(ANGLES[1])
        scale *= np.sqrt(wanted / area)
    return edge


def _room(t: Tumour, head: Anatomy) -> NDArray[np.float64]:
    """Distance from the tumour's centre to the brain's surface by direction (73,)."""
    steps = np.linspace(0.005, 1.2, 240, dtype=np.float32)
    x = t.x + steps[:, None] * np.cos(ANGLES, dtype=np.float32)
    y = t.y + steps[:, None] * np.sin(ANGLES, dtype=np.float32)
    beyond = head.brain.outside(x, y) > -0.008
    return steps[np.where(beyond.any(axis=0), beyond.argmax(axis=0), len(steps) - 1)].astype(float)


def paint(image: Field, head: Head, t: Tumour, edge: NDArray[np.float64], grain: Field, blotch: Field) -> Field:
    """The image with the tumour in it. `grain` and `blotch` are fine and coarse noise of the image's shape."""
    soft = 3 / image.shape[0]
    brain = head.brain_distance
    dx, dy = head.x - np.float32(t.x), head.y - np.float32(t.y)
    distance = np.hypot(dx, dy)
    reach = np.interp(np.arctan2(dy, dx) % (2 * np.pi), ANGLES, edge).astype(np.float32)
    beyond = distance - reach
    weight = inside(beyond, 2 * soft)
    if t.label == GLIOMA:
        swelling = inside(beyond - 0.05 - 0.03 * blotch, 0.1) * inside(brain + 0.04, 0.03)
        image = image * (1 - t.halo * swelling * (1 - weight))
        part = distance / np.maximum(reach, 1e-6)
        dead = inside(part - (1 - t.ring) + 0.13 * blotch, 0.16)
        body = t.bright * (1 + 0.09 * blotch + 0.05 * grain) * (1 - dead) + (t.core + 0.03 * grain) * dead
    elif t.label == MENINGIOMA:
        liquid_rim = inside(np.abs(beyond - 0.012) - 0.006, soft) * inside(brain + 0.02, 0.02)
        image = image * (1 - 0.5 * liquid_rim)
        body = t.bright * (1 + 0.03 * blotch + 0.02 * grain)
    else:
        body = t.bright * (1 + 0.05 * blotch + 0.03 * grain)
    return image + weight * (body - image)
