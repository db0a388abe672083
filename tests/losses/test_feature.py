"""Feature and fusion losses against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_kd.losses import FeatureLoss, MultiScaleFusionLoss


def features(seed: int, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def block_means(x: np.ndarray, size: int) -> np.ndarray:
    """Mean over the size × size (× size) blocks of an array whose sides are multiples of ``size``."""
    for axis in range(2, x.ndim):
        x = np.stack([part.mean(axis=axis) for part in np.split(x, size, axis=axis)], axis=axis)
    return x


CASES = [
    pytest.param({"d1": (2, 3, 8, 8)}, id="one-layer"),  # (B, C, H, W)
    pytest.param({"d2": (2, 3, 8, 4), "d1": (2, 2, 4, 8)}, id="two-layers"),  # of different channels and sides
    pytest.param({"d1": (1, 2, 4, 4, 8)}, id="volume"),  # (B, C, H, W, D)
]


@pytest.mark.parametrize("shapes", CASES)
def test_feature_loss_is_mean_per_element_summed_over_layers(shapes):
    student, teacher = features(0, **shapes), features(1, **shapes)
    expected = sum(np.square(student[name].numpy() - teacher[name].numpy()).mean() for name in shapes)
    assert float(FeatureLoss()(student, teacher)) == pytest.approx(expected)


@pytest.mark.parametrize("shapes", CASES)
@pytest.mark.parametrize("sizes", [(1,), (2, 4), (1, 2, 4)])
def test_fusion_loss_equals_block_means(shapes, sizes):
    student, teacher = features(0, **shapes), features(1, **shapes)
    expected = np.mean(
        [
            sum(np.square(block_means(student[n].numpy() - teacher[n].numpy(), size)).mean() for n in shapes)
            for size in sizes
        ]
    )
    assert float(MultiScaleFusionLoss(sizes)(student, teacher)) == pytest.approx(expected)


@pytest.mark.parametrize("loss", [FeatureLoss(), MultiScaleFusionLoss((1, 2))])
@pytest.mark.parametrize("shapes", CASES)
def test_zero_when_equal(loss, shapes):
    student = features(0, **shapes)
    assert float(loss(student, {name: f.clone() for name, f in student.items()})) == 0.0


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape"),
    [
        ((2, 3, 8, 8), (2, 3, 4, 4)),  # the student's map is the larger one
        ((2, 3, 4, 4), (2, 3, 8, 8)),  # the teacher's is
        ((2, 3, 4, 8), (2, 3, 8, 4)),  # each along one axis
    ],
)
def test_larger_map_is_pooled_to_the_smaller(student_shape, teacher_shape):
    student, teacher = features(0, d1=student_shape)["d1"], features(1, d1=teacher_shape)["d1"]
    expected = np.square(block_means(student.numpy(), 4) - block_means(teacher.numpy(), 4)).mean()
    assert float(FeatureLoss()({"d1": student}, {"d1": teacher})) == pytest.approx(expected)


def test_coarsest_fusion_scale_sees_the_mean_alone():
    # Pixels in another order: same mean (size 1), other blocks (size 2).
    student = features(0, d1=(1, 2, 4, 4))["d1"]
    shuffled = student.flatten(2)[..., torch.randperm(16, generator=torch.Generator().manual_seed(3))].reshape_as(
        student
    )
    assert float(MultiScaleFusionLoss((1,))({"d1": student}, {"d1": shuffled})) == pytest.approx(0.0, abs=1e-24)
    assert float(MultiScaleFusionLoss((2,))({"d1": student}, {"d1": shuffled})) > 1e-3


@pytest.mark.parametrize("loss", [FeatureLoss(), MultiScaleFusionLoss((1, 2))])
@pytest.mark.parametrize(
    ("student_shape", "teacher_shape"),
    [
        ((1, 2, 4, 4), (1, 2, 4, 4)),  # equal sizes
        ((1, 2, 4, 4), (1, 2, 2, 2)),  # pooled
        ((1, 1, 2, 2, 4), (1, 1, 2, 2, 2)),  # volumes, pooled
    ],
)
def test_gradients(loss, student_shape, teacher_shape):
    student, teacher = features(0, d1=student_shape)["d1"], features(1, d1=teacher_shape)["d1"]
    assert torch.autograd.gradcheck(
        lambda s, t: loss({"d1": s}, {"d1": t}), (student.requires_grad_(), teacher.requires_grad_())
    )


@pytest.mark.parametrize("loss", [FeatureLoss(), MultiScaleFusionLoss()])
@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ({}, {}, "no layers are tapped"),
        ({"d1": (1, 2, 4, 4)}, {"d2": (1, 2, 4, 4)}, r"student has \['d1'\], teacher has \['d2'\]"),
        (
            {"d1": (1, 2, 4, 4)},
            {"d1": (1, 3, 4, 4)},
            "layer 'd1': student has 2 channels, teacher 3; give it a projection",
        ),
        (
            {"d1": (1, 2, 4, 4)},
            {"d1": (1, 16, 2)},  # tokens
            r"layer 'd1': student \(1, 2, 4, 4\) and teacher \(1, 16, 2\) must be .* tokens, \(B, N, C\)",
        ),
        ({"d1": (1, 2)}, {"d1": (1, 2)}, r"layer 'd1': student \(1, 2\) and teacher \(1, 2\) must be"),
    ],
)
def test_layers_that_do_not_pair(loss, student, teacher, message):
    with pytest.raises(ValueError, match=message):
        loss(features(0, **student), features(1, **teacher))


@pytest.mark.parametrize("sizes", [(), (0,), (2, -1)])
def test_fusion_sizes_must_be_positive(sizes):
    with pytest.raises(ValueError, match="sizes must be positive and at least one"):
        MultiScaleFusionLoss(sizes)
