"""Heads and what is none."""

from pathlib import Path

import numpy as np
import pytest

from monai_kd.io import read_image
from monai_kd.metrics import is_head_shaped

BRAIN = Path(__file__).resolve().parents[3] / "shared" / "volumes" / "brain1.nii.gz"
X, Y = np.mgrid[:96, :96]
NOISE = np.random.default_rng(0).random((96, 96))
HEAD = (((X - 48) / 35) ** 2 + ((Y - 45) / 42) ** 2 < 1) * (0.4 + 0.6 * NOISE)
NO_HEADS = {
    "stripes": X // 8 % 2,
    "waves": np.sin(X / 5),
    "chequers": (X // 8 + Y // 8) % 2,
    "noise": NOISE,
    "ramp": X,
    "constant": np.full((96, 96), 7),
    "half a head, cut out": HEAD[30:66, 20:70],
    "white ground": 1 - HEAD,
    "a ring of tubes": ((X - 48) ** 2 + (Y - 48) ** 2 < 40**2) & ((X // 6 + Y // 6) % 2 == 0),
}


@pytest.mark.parametrize("scale", [1, 1000, -0.0001])
def test_a_head(scale):
    picture = HEAD * scale if scale > 0 else 5 + HEAD * -scale
    assert is_head_shaped(picture)
    assert is_head_shaped(picture.T)
    assert is_head_shaped(picture[::2])  # resized to a square, heads are out of proportion


@pytest.mark.parametrize("picture", NO_HEADS.values(), ids=NO_HEADS)
def test_no_head(picture):
    assert not is_head_shaped(picture)


@pytest.mark.skipif(not BRAIN.exists(), reason="no real volume")
def test_every_slice_of_a_real_head():
    image, _ = read_image(BRAIN)
    assert all(is_head_shaped(image[..., number]) for number in range(image.shape[2]))
