"""Drawn heads with a midline and a tumour, made with SciPy, and real slices of the Figshare data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

FIGSHARE = Path(__file__).resolve().parents[2] / "shared" / "figshare"


def head(side: int = 128, tilt: float = 0.0, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    """(1, side, side): tissue that is its own mirror image in a line, turned by degrees and shifted by pixels."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), side / 40)
    noise /= noise.std()
    symmetric = 0.5 + 0.08 * (noise + noise[::-1])
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    symmetric[(rows / (0.36 * side)) ** 2 + (columns / (0.44 * side)) ** 2 > 1] = 0
    turned = ndimage.rotate(symmetric, tilt, reshape=False, order=1)
    return torch.tensor(ndimage.shift(turned, (shift, 0), order=1), dtype=torch.float32)[None]


def tumour(side: int = 128, row: float = 0.68, column: float = 0.5, radius: float = 0.07) -> torch.Tensor:
    """(1, side, side), 0 and 1: a disc, by default in one half."""
    rows, columns = torch.arange(side)[:, None], torch.arange(side)
    return ((rows - row * side) ** 2 + (columns - column * side) ** 2 <= (radius * side) ** 2).float()[None]


def real_slices(numbers: list[int], side: int = 128) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Image and mask, (1, side, side), of slices of the Figshare data; the test is skipped where they are absent."""
    if not FIGSHARE.is_dir():
        pytest.skip("no real slices beside the repository")
    slices = []
    for number in numbers:
        image = Image.open(FIGSHARE / "images" / f"{number}.jpg").convert("L").resize((side, side), Image.BILINEAR)
        mask = Image.open(FIGSHARE / "masks" / f"{number}.png").convert("L").resize((side, side), Image.NEAREST)
        pair = (np.asarray(image, dtype=np.float32).T / 255, (np.asarray(mask).T > 0).astype(np.float32))
        slices.append(tuple(torch.from_numpy(each)[None] for each in pair))
    return slices
