"""Attention maps against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_kd.losses import AttentionLoss
from monai_kd.losses.attention import attention_map

SHAPES = [
    pytest.param((2, 3, 4, 5), id="map-2d"),  # (B, C, H, W)
    pytest.param((2, 3, 4, 5, 2), id="map-3d"),  # (B, C, H, W, D)
    pytest.param((2, 3, 6), id="sequence"),  # (B, C, L)
]


def features(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference_map(x: np.ndarray, eps: float) -> np.ndarray:
    """Image by image, channel by channel."""
    maps = []
    for image in x:
        energy = sum(channel**2 for channel in image)
        maps.append(energy / (energy.sum() / energy.size + eps))
    return np.stack(maps)


@pytest.mark.parametrize("shape", SHAPES)
def test_map_equals_numpy(shape):
    found = attention_map(features(0, shape).pow(2).sum(1), eps=0.1)
    assert found.shape == (shape[0], *shape[2:])
    np.testing.assert_allclose(found.numpy(), reference_map(features(0, shape).numpy(), 0.1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e4])
def test_map_has_mean_one_in_each_image_at_any_scale(shape, scale):
    x = scale * features(0, shape)
    x[1] *= 7  # another scale in the second image
    found = attention_map(x.pow(2).sum(1), eps=1e-12)
    torch.testing.assert_close(found.flatten(1).mean(1), torch.ones(2, dtype=torch.float64))


def test_map_of_silent_layer_is_zero():
    assert not attention_map(torch.zeros(1, 3, 3)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_loss_is_mean_per_pixel_summed_over_layers(shape):
    student = {"d2": features(0, shape), "d1": features(1, (2, 2, 8, 8))}
    teacher = {"d1": features(2, (2, 2, 8, 8)), "d2": features(3, shape)}  # in another order
    expected = sum(
        np.square(reference_map(student[n].numpy(), 1e-6) - reference_map(teacher[n].numpy(), 1e-6)).mean()
        for n in student
    )
    assert float(AttentionLoss()(student, teacher)) == pytest.approx(expected)


def test_loss_ignores_the_scale_of_the_features():
    # That is what tells it from FeatureLoss: only where a layer looks counts.
    s = features(0, (2, 3, 4, 4))
    assert float(AttentionLoss(eps=1e-12)({"d1": s}, {"d1": 5 * s})) == pytest.approx(0.0, abs=1e-16)


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_when_equal(shape):
    s = features(0, shape)
    assert float(AttentionLoss()({"d1": s}, {"d1": s.clone()})) == 0.0


@pytest.mark.parametrize("teacher_shape", [(1, 2, 4, 4), (1, 2, 2, 2)])
def test_gradients(teacher_shape):
    student, teacher = features(0, (1, 2, 4, 4)).requires_grad_(), features(1, teacher_shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: AttentionLoss()({"d1": s}, {"d1": t}), (student, teacher))


def test_names_must_agree():
    with pytest.raises(ValueError, match=r"same names: student has \['d1'\], teacher has \['d2'\]"):
        AttentionLoss()({"d1": features(0, (1, 2, 4, 4))}, {"d2": features(0, (1, 2, 4, 4))})
