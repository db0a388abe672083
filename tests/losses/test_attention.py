"""Attention maps against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_kd.losses import AttentionLoss, DistillationLoss, Projections
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


class TestAsTapped:
    """Without a projection: as the paper has it."""

    @pytest.mark.parametrize("shape", SHAPES)
    def test_channels_of_the_sides_may_differ(self, shape):
        student, teacher = features(0, shape), features(1, (shape[0], 7, *shape[2:]))
        expected = np.square(reference_map(student.numpy(), 1e-6) - reference_map(teacher.numpy(), 1e-6)).mean()
        found = AttentionLoss(projected=False)({"d1": student}, {"d1": teacher})
        assert float(found) == pytest.approx(expected, rel=1e-5)

    def test_energies_are_pooled_and_not_features(self):
        # Channels of alternating sign have no mean and all their energy.
        signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)
        student, teacher = torch.ones(1, 1, 4, 4), signs[None, None]
        assert float(AttentionLoss(projected=False)({"d1": student}, {"d1": teacher})) == pytest.approx(0, abs=1e-9)
        assert float(AttentionLoss()({"d1": student}, {"d1": teacher})) == pytest.approx(1, abs=1e-4)

    def test_a_trained_projection_can_not_take_over_the_loss(self):
        """Of a student that can't move, the distance stays; the projection of the other form lowers it alone."""
        torch.manual_seed(0)
        sides = {
            "student_features": {"d1": torch.randn(4, 6, 8, 8)},
            "teacher_features": {"d1": torch.randn(4, 9, 8, 8)},
        }
        losses = {}
        for projected in (True, False):
            projections = Projections.fitted(*({"d1": each["d1"].shape} for each in sides.values()))
            loss = DistillationLoss({"at": AttentionLoss(projected=projected)}, {"at": 1.0}, projections)
            optimizer = torch.optim.Adam(loss.parameters(), 0.05)
            before = float(loss(sides).total.detach())
            for _ in range(60):
                optimizer.zero_grad()
                total = loss(sides).total
                if total.requires_grad:
                    total.backward()
                    optimizer.step()
            losses[projected] = (before, float(loss(sides).total.detach()))
        assert losses[True][1] < 0.8 * losses[True][0]
        assert losses[False][1] == losses[False][0] > 0

    def test_what_is_no_map(self):
        with pytest.raises(ValueError, match=r"must be \(B, C, spatial axes"):
            AttentionLoss(projected=False)({"e": torch.ones(2, 3)}, {"e": torch.ones(2, 3)})
        with pytest.raises(ValueError, match="tapped under the same names"):
            AttentionLoss(projected=False)({"a": torch.ones(2, 3, 4)}, {"b": torch.ones(2, 3, 4)})

    def test_the_teachers_features_are_stored_as_they_are(self):
        sides = {"d1": (1, 4, 8, 8)}, {"d1": (1, 4, 32, 32)}
        for projected, size in ((True, (8, 8)), (False, (32, 32))):
            loss = DistillationLoss({"at": AttentionLoss(projected=projected)}, {"at": 1.0})
            assert loss.feature_sizes(*sides) == {"d1": size}
