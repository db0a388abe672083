"""Channel-wise divergence against loops in numpy, and what it can't see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from monai_kd.losses import ChannelWiseKL

SHAPES = [
    pytest.param((2, 1, 4, 5), id="one-channel-2d"),  # (B, 1, H, W)
    pytest.param((2, 3, 4, 5), id="map-2d"),  # (B, C, H, W), H ≠ W ≠ C: a mixed-up axis shows
    pytest.param((2, 3, 2, 4, 5), id="map-3d"),  # (B, C, H, W, D)
    pytest.param((3, 2, 7), id="sequence"),  # (B, C, L)
]


def pair(shape: tuple[int, ...], scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def reference(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """T² KL of spatial softmaxes, one channel of one image after the other."""
    found = []
    for index in np.ndindex(*student.shape[:2]):
        s, t = (softmax(z[index].numpy().ravel() / temperature) for z in (student, teacher))
        found.append(rel_entr(t, s).sum())
    return temperature**2 * float(np.mean(found))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_loop_over_channels(shape, temperature):
    student, teacher = pair(shape)
    expected = reference(student, teacher, temperature)
    assert expected > 0.01
    assert float(ChannelWiseKL(temperature)(student, teacher)) == pytest.approx(expected, rel=1e-10)


def test_known_number():
    # φ(t) = (3/4, 1/4) and φ(s) = (1/2, 1/2) over the two positions of one channel.
    teacher, student = torch.tensor([[[np.log(3.0), 0.0]]]), torch.zeros(1, 1, 2)
    expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert float(ChannelWiseKL(1.0)(student, teacher)) == pytest.approx(expected, rel=1e-6)


def test_default_temperature_is_that_of_the_paper():
    assert ChannelWiseKL().temperature == 4.0


@pytest.mark.parametrize("shape", SHAPES)
def test_blind_to_the_level_of_a_channel(shape):
    student, _ = pair(shape)
    level = torch.arange(shape[0] * shape[1]).reshape(shape[0], shape[1], *[1] * (len(shape) - 2))
    assert float(ChannelWiseKL()(student + level, student)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    "tiles",
    [
        pytest.param((3, 1, 1, 1), id="batch"),  # (2, C, 4, 5) to (6, C, 4, 5)
        pytest.param((1, 2, 1, 1), id="channels"),  # (2, C, 4, 5) to (2, 2 C, 4, 5)
        pytest.param((1, 1, 2, 3), id="image"),  # (2, C, 4, 5) to (2, C, 8, 15): not divided by the positions
    ],
)
def test_does_not_grow_with_batch_or_image(tiles):
    student, teacher = pair((2, 2, 4, 5))
    once, tiled = ChannelWiseKL()(student, teacher), ChannelWiseKL()(student.tile(tiles), teacher.tile(tiles))
    assert float(tiled) == pytest.approx(float(once), rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 1, 2, 3), (2, 2, 2, 1, 2)])
def test_gradients(shape):
    student, teacher = pair(shape)
    assert torch.autograd.gradcheck(lambda z: ChannelWiseKL(2.0)(z, teacher), student.requires_grad_())


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16, torch.float32])
def test_finite_for_huge_logits(half):
    # (1, 2, 64, 64): student and teacher as sure as can be, of opposite places
    teacher = torch.zeros(1, 2, 64, 64, dtype=half)
    teacher[..., 0, 0], teacher[..., 1:, :] = 1e4, -1e4
    student = (-teacher).requires_grad_()
    loss = ChannelWiseKL(1.0)(student, teacher)
    loss.backward()
    assert loss.dtype is torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((2, 1, 4, 4), (2, 1, 4, 1), r"\(2, 1, 4, 4\) and teacher logits \(2, 1, 4, 1\) differ"),
        ((2, 3), (2, 3), r"logits \(2, 3\) have no positions"),
    ],
)
def test_shapes_that_do_not_fit(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        ChannelWiseKL()(torch.zeros(student), torch.zeros(teacher))


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        ChannelWiseKL(0)
