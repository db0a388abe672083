"""What the measurements of a benchmark have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """Options of a benchmark, the argument of every ``rows``.

    Attributes:
        repeat: number of repetitions, each of which runs every way once.
        tiny: networks and images of the smallest size, to try whether the benchmark runs; its ratios say nothing.
        bundles: folder of the bundles, see `monai_kd.bundle.find_bundle`.
        checkpoint: weights of seg_student, to measure inference with; ``None``: for a folder those of the bundle,
            unless ``tiny``, and for the network alone random weights, at full width unless ``tiny``.
        slices: folder of slices to measure inference with; ``None``: phantoms.
    """

    repeat: int = 9
    tiny: bool = False
    bundles: Path | None = None
    checkpoint: Path | None = None
    slices: Path | None = None
