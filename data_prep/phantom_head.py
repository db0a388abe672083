"""Synthetic head slices in three views, without a tumour.

All geometry is in head coordinates: x to the right and y down, -1 to 1 over the image. Intensities are relative: fat is
about 0.8, brain 0.35, cerebrospinal fluid 0.1, as in T1-weighted images after contrast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.floating]  # float32 throughout, which numpy's types lose in sums with plain numbers

VIEWS = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Blob:
    """A superellipse: centre, half axes, exponent (2: ellipse, larger: boxier), rotation in radians, waviness."""

    x: float
    y: float
    a: float
    b: float
    power: float = 2.0
    turn: float = 0.0
    waves: tuple[float, ...] = ()

    def outside(self, x: Field, y: Field) -> Field:
        """Approximate distance to the outline, negative inside; same shape as x and y."""
        # float64 scalars from a generator would turn whole images into float64, at half the speed.
        dx, dy = x - np.float32(self.x), y - np.float32(self.y)
        if self.turn:
            cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
            dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
        u, v = np.abs(dx) * np.float32(1 / self.a), np.abs(dy) * np.float32(1 / self.b)
        radius = np.sqrt(u * u + v * v) if self.power == 2 else (u**self.power + v**self.power) ** (1 / self.power)
        if self.waves:
            angle = np.arctan2(dy, dx)
            half = len(self.waves) // 2
            for k in range(half):
                one, other = self.waves[k], self.waves[half + k]
                size, phase = np.hypot(one, other), np.arctan2(one, other)
                radius = radius * (1 + np.float32(size) * np.sin((k + 2) * angle + np.float32(phase)))
        return (radius - 1) * np.float32(min(self.a, self.b))


@dataclass(frozen=True)
class Anatomy:
    """The structures in one view of one head and their positions."""

    view: str
    brain: Blob
    head: tuple[Blob, ...]
    sella: tuple[float, float]
    ventricles: tuple[Blob, ...]
    midline: bool
    hindbrain: tuple[Blob, ...]
    cavities: tuple[Blob, ...]


def anatomy(view: str, rng: np.random.Generator) -> Anatomy:
    """A head of random proportions, seen in `view` ("axial", "coronal" or "sagittal")."""
    head: tuple[Blob, ...]
    horns: tuple[Blob, ...]
    cavities: tuple[Blob, ...]
    s = rng.uniform(0.9, 1.06)
    waves = tuple(rng.normal(0, 0.012, 6))
    wide = rng.uniform(0.6, 1.5)
    cx, cy = rng.uniform(-0.05, 0.05, 2)
    if view == "axial":
        brain = Blob(cx, cy, 0.53 * s, 0.67 * s, 2.15, 0, waves)
        head = (Blob(cx, cy, 0.53 * s + 0.12, 0.67 * s + 0.12, 2.1, 0, waves),)
        horns = tuple(
            Blob(cx + side * 0.075, cy + dy, 0.028 * wide, 0.13, 2, side * turn)
            for side in (-1, 1)
            for dy, turn in ((-0.12, -0.35), (0.16, 0.45))
        )
        third = Blob(cx, cy + 0.02, 0.014 * wide, 0.07)
        return Anatomy(view, brain, head, (cx, cy - 0.12), (*horns, third), True, (), ())
    if view == "coronal":
        cy -= 0.2
        brain = Blob(cx, cy, 0.6 * s, 0.54 * s, 2.4, 0, waves)
        head = (
            Blob(cx, cy, 0.6 * s + 0.12, 0.54 * s + 0.13, 2.2, 0, waves),
            Blob(cx, cy + 0.75, 0.56 * s, 0.85, 3.0, 0, tuple(rng.normal(0, 0.015, 4))),
        )
        horns = tuple(Blob(cx + side * 0.09, cy - 0.05, 0.03 * wide, 0.11, 2, side * -0.6) for side in (-1, 1))
        third = Blob(cx, cy + 0.14, 0.013 * wide, 0.07)
        cavities = (
            Blob(cx, cy + 0.68 * s, 0.11, 0.055, 2.5),
            Blob(cx, cy + 0.95, 0.05, 0.12, 2.5),
            *(Blob(cx + side * 0.24, cy + 0.88, 0.07, 0.11, 2.6, side * 0.3) for side in (-1, 1)),
        )
        return Anatomy(view, brain, head, (cx, cy + 0.46 * s), (*horns, third), True, (), cavities)
    cy -= 0.22
    brain = Blob(cx, cy, 0.7 * s, 0.5 * s, 2.2, 0.12, waves)
    head = (
        Blob(cx, cy, 0.7 * s + 0.11, 0.5 * s + 0.12, 2.1, 0.12, waves),
        Blob(cx - 0.33, cy + 0.72, 0.36, 0.5, 2.6, -0.15),
        Blob(cx - 0.72 * s, cy + 0.52, 0.12, 0.2, 2.0, 0.45),
        Blob(cx + 0.3, cy + 0.95, 0.3, 0.6, 3.0, -0.2),
    )
    body = Blob(cx - 0.06, cy - 0.04, 0.22, 0.035 * wide, 2, 0.15)
    horns = (body, Blob(cx + 0.15, cy + 0.06, 0.1, 0.03 * wide, 2, 0.9))
    hind = (
        Blob(cx + 0.4 * s, cy + 0.38 * s, 0.24, 0.17, 2.2, -0.2),
        Blob(cx + 0.16, cy + 0.5, 0.085, 0.36, 2.5, -0.15),
    )
    cavities = (Blob(cx - 0.36, cy + 0.6, 0.14, 0.09, 2.4, 0.2), Blob(cx - 0.0, cy + 0.85, 0.05, 0.3, 2.4, -0.15))
    return Anatomy(view, brain, head, (cx - 0.1, cy + 0.42 * s), horns, False, hind, cavities)


def grid(size: int) -> tuple[Field, Field]:
    """Head coordinates x and y of all pixel centres, (size, size) each."""
    centres = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    x, y = np.meshgrid(centres, centres)
    return x, y


class Noise:
    """Smooth random fields that change slowly from one slice of a patient to the next."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self._rng, self._size = rng, size
        frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]) * size
        self._frequency = frequency.astype(np.float32)

    def field(self, low: float, high: float) -> Callable[[float], Field]:
        """A function from slice position to a band-pass field of `low` to `high` cycles per image, variance 1."""
        f = self._frequency
        band = np.exp(-((f / high) ** 2)) * (1 - np.exp(-((f / low) ** 2))) if low else np.exp(-((f / high) ** 2))
        pair = []
        for _ in range(2):
            white = self._rng.standard_normal((self._size, self._size), np.float32)
            smooth = np.fft.irfft2(np.fft.rfft2(white) * band, s=white.shape).astype(np.float32)
            pair.append(smooth / smooth.std())
        return lambda position: np.float32(np.cos(position)) * pair[0] + np.float32(np.sin(position)) * pair[1]


def inside(distance: Field, soft: float) -> Field:
    """Soft indicator of the inside: 1 for distances well below zero, 0 well above, a ramp of width `soft` between."""
    return np.clip(np.float32(0.5) - distance * np.float32(1 / soft), 0, 1)


class Head:
    """One patient's head in one view; `slice_at` returns slices of it."""

    def __init__(self, view: str, size: int, rng: np.random.Generator) -> None:
        self.anatomy = anatomy(view, rng)
        self.x, self.y = grid(size)
        # Approximate distance to the brain's surface, negative inside, (size, size).
        self.brain_distance = self.anatomy.brain.outside(self.x, self.y)
        self._soft = 3 / size
        noise = Noise(rng, size)
        self._folds, self._folds_fine = noise.field(5, 11), noise.field(12, 30)
        self._warp, self._bias = noise.field(0, 6), noise.field(0, 1.6)
        self._muscles, self._tissue = noise.field(2, 7), noise.field(8, 40)
        self._level = {
            "fat": rng.uniform(0.55, 0.85),
            "white": rng.uniform(0.37, 0.45),
            "grey": rng.uniform(0.29, 0.35),
            "liquid": rng.uniform(0.07, 0.14),
            "muscle": rng.uniform(0.22, 0.32),
        }
        self._sulci = rng.uniform(0.6, 1.2)
        self._scalp = rng.uniform(0.03, 0.055)
        self._bias_strength = rng.uniform(0.05, 0.22)
        self._vessels = self._draw_vessels(rng, size)

    def slice_at(self, position: float) -> Field:
        """The slice at a position, (size, size). Positions are phases of the random fields in radians.

        Neighbouring slices are about 0.2 apart.
        """
        a, soft, level = self.anatomy, self._soft, self._level
        warp = self._warp(position) * 0.012
        x, y = self.x + warp, self.y + np.roll(warp, self.x.shape[0] // 3, axis=1)
        brain = a.brain.outside(x, y)
        head = a.head[0].outside(x, y)
        for part in a.head[1:]:
            head = _joined(head, part.outside(x, y))

        tissue, muscles = self._tissue(position), self._muscles(position)
        # Fat lies in thin sheets between muscles: along the zero lines of a random field.
        sheets = np.exp(-(((muscles + 0.1 * tissue) / 0.2) ** 2))
        flesh = level["muscle"] + 0.04 * muscles + 0.035 * tissue + 0.28 * sheets - 0.2 * inside(1.35 + muscles, 0.3)
        image = np.clip(flesh, 0.02, 0.9)
        for cavity in a.cavities:
            image = _over(image, 0.03 + 0.02 * tissue, inside(cavity.outside(x, y) + 0.012 * tissue, 3 * soft))
        fat = level["fat"] * (1 + 0.08 * muscles + 0.05 * tissue)
        image = _over(image, fat, inside(-head - self._scalp - 0.006 * muscles, 2 * soft))
        image = image * inside(head, 2 * soft)

        bone = np.abs(brain - 0.035) - 0.03
        image = _over(image, 0.05 + 0.12 * inside(np.abs(brain - 0.036) - 0.008, 2 * soft), inside(bone, 2 * soft))
        inner = self._brain(position, brain, x, y)
        image = _over(image, inner, inside(brain, 2 * soft))
        for part in a.hindbrain:
            distance = part.outside(x, y)
            leaves = level["grey"] + 0.03 + 0.03 * np.sin(distance * 110 + 5 * muscles)
            image = _over(image, leaves, inside(distance, 2 * soft))
        image = image + self._vessels * inside(brain - 0.01, 2 * soft)
        return np.maximum(image, 0) * (1 + self._bias_strength * self._bias(position))

    def _brain(self, position: float, brain: Field, x: Field, y: Field) -> Field:
        level, soft = self._level, self._soft
        folds, fine = self._folds(position), self._folds_fine(position)
        depth = -brain
        matter = inside(0.085 + 0.035 * folds - depth, 0.03)
        inner = level["grey"] + (level["white"] - level["grey"]) * matter + 0.006 * fine
        # Sulci: narrow valleys along the zero lines of a random field, deepest at the brain's surface.
        near = np.clip(1.15 - depth * 3.6, 0, 1)
        sulci = np.exp(-((folds / 0.32) ** 2)) * near + 0.4 * np.exp(-((fine / 0.3) ** 2)) * np.clip(near - 0.4, 0, 1)
        inner = _over(inner, level["liquid"], np.clip(0.85 * self._sulci * sulci, 0, 0.9))
        inner = _over(inner, level["liquid"], inside(0.02 + 0.006 * fine - depth, 2 * soft) * 0.7)
        if self.anatomy.midline:
            falx = np.abs(x - np.float32(self.anatomy.brain.x) - 0.006 * folds)
            away = np.clip(np.abs(y - np.float32(self.anatomy.brain.y)) * 4 - 0.6, 0, 1)
            inner = _over(inner, level["liquid"] + 0.05, inside(falx - 0.012, soft) * away * 0.8)
            inner = _over(inner, level["white"] + 0.1, inside(falx - 0.004, soft) * away * 0.7)
        for ventricle in self.anatomy.ventricles:
            inner = _over(inner, level["liquid"], inside(ventricle.outside(x, y) + 0.004 * fine, 2 * soft))
        return inner

    def _draw_vessels(self, rng: np.random.Generator, size: int) -> Field:
        """Bright vessels: short winding lines, dots, and a sinus at the brain's edge. They mimic small tumours."""
        points = np.zeros((size, size), np.float32)
        brain = self.anatomy.brain
        for _ in range(int(rng.integers(8, 22))):
            radius, angle, heading = rng.uniform(0.2, 0.98), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
            steps = int(rng.integers(1, size // 9))
            headings = heading + np.cumsum(rng.normal(0, 0.25, steps))
            x = brain.x + brain.a * radius * np.cos(angle) + np.cumsum(np.cos(headings)) * 2 / size
            y = brain.y + brain.b * radius * np.sin(angle) + np.cumsum(np.sin(headings)) * 2 / size
            columns, rows = _pixel(x, size), _pixel(y, size)
            points[rows, columns] = rng.uniform(0.3, 1.0)
        image = ndimage.gaussian_filter(points, 0.003 * size, truncate=3) * 0.8
        for _ in range(int(rng.integers(1, 4))):
            angle = rng.uniform(0, 2 * np.pi)
            sinus = Blob(
                brain.x + brain.a * 0.97 * np.cos(angle),
                brain.y + brain.b * 0.97 * np.sin(angle),
                *rng.uniform(0.012, 0.03, 2),
            )
            image += rng.uniform(0.2, 0.45) * inside(sinus.outside(self.x, self.y), 0.02)
        for side in (-1, 1):  # the carotid arteries beside the sella
            carotid = Blob(
                self.anatomy.sella[0] + side * rng.uniform(0.07, 0.1), self.anatomy.sella[1] + 0.02, 0.015, 0.015
            )
            image += rng.uniform(0.05, 0.4) * inside(carotid.outside(self.x, self.y), 0.015)
        return image


def _joined(one: Field, other: Field, soft: float = 0.12) -> Field:
    """Distance to the union of two shapes, with a corner of width `soft` that is rounded where they meet."""
    share = np.clip(0.5 + (other - one) * np.float32(0.5 / soft), 0, 1)
    return other + (one - other) * share - np.float32(soft) * share * (1 - share)


def _pixel(coordinate: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    return np.clip(((coordinate + 1) * size / 2).astype(np.int64), 0, size - 1)


def _over(below: Field, above: Field | float, weight: Field) -> Field:
    return below + weight * (above - below)
