"""Logit losses against closed forms in numpy and loops over single pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr, softmax

from monai_kd.losses import LogitKL, LogitMSE


def bernoulli_pair(z: np.ndarray) -> np.ndarray:
    """(…, 1) logits to (…, 2) probabilities."""
    return np.concatenate([expit(z), expit(-z)], axis=-1)


def reference_kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    """T² Σ_c p_t log(p_t / p_s), one position after the other, classes taken out by index."""
    s, t = student.double().numpy(), teacher.double().numpy()
    found = []
    for position in np.ndindex(*s.shape[:1], *s.shape[2:]):
        index = (position[0], slice(None), *position[1:])
        probabilities = bernoulli_pair if s.shape[1] == 1 else softmax
        p_s, p_t = probabilities(s[index] / temperature), probabilities(t[index] / temperature)
        found.append(rel_entr(p_t, p_s).sum())
    return temperature**2 * float(np.mean(found))


SHAPES = [
    pytest.param((3, 2), id="two-classes"),  # (B, C)
    pytest.param((4, 5), id="five-classes"),  # (B, C)
    pytest.param((4, 1), id="one-channel"),  # (B, 1): Bernoulli
    pytest.param((2, 3, 5), id="map-1d"),  # (B, C, W): the number of axes for which torch's own choice is the batch
    pytest.param((2, 3, 4, 5), id="map-2d"),  # (B, C, H, W), H ≠ W ≠ C: a mixed-up axis shows
    pytest.param((2, 1, 4, 5), id="one-channel-map-2d"),  # (B, 1, H, W)
    pytest.param((2, 2, 3, 4, 5), id="map-3d"),  # (B, C, H, W, D)
    pytest.param((2, 1, 3, 4, 5), id="one-channel-map-3d"),  # (B, 1, H, W, D)
]


def activation(shape: tuple[int, ...]) -> str | None:
    return "softmax" if shape[1] > 1 else None


def pair(shape: tuple[int, ...], scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_kl_equals_loop_over_positions(shape, temperature):
    student, teacher = pair(shape)
    expected = reference_kl(student, teacher, temperature)
    assert expected > 0.01
    assert float(LogitKL(temperature, activation(shape))(student, teacher)) == pytest.approx(expected, rel=1e-10)


def test_kl_known_number():
    # p_t = (3/4, 1/4) and p_s = (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2).
    teacher, student = torch.tensor([[np.log(3.0), 0.0]]), torch.zeros(1, 2)
    assert float(LogitKL(1.0, "softmax")(student, teacher)) == pytest.approx(
        0.75 * np.log(1.5) + 0.25 * np.log(0.5), rel=1e-6
    )


def test_kl_direction_is_teacher_to_student():
    student, teacher = pair((6, 3))
    forward, backward = reference_kl(student, teacher, 1.0), reference_kl(teacher, student, 1.0)
    assert abs(forward - backward) > 0.05  # or else the test could not tell them apart
    assert float(LogitKL(1.0, "softmax")(student, teacher)) == pytest.approx(forward)


@pytest.mark.parametrize("shape", SHAPES)
def test_kl_zero_when_equal(shape):
    student, _ = pair(shape)
    assert float(LogitKL(4.0, activation(shape))(student, student.clone())) == 0.0


def test_one_channel_equals_two_channels_with_the_logit_shared():
    # σ(z) is softmax over (z, 0): the same divergence through another door.
    student, teacher = pair((2, 1, 4, 4))
    two = [torch.cat([z, torch.zeros_like(z)], dim=1) for z in (student, teacher)]
    assert float(LogitKL(3.0)(student, teacher)) == pytest.approx(float(LogitKL(3.0, "softmax")(*two)), rel=1e-10)


def test_one_channel_gradient_is_not_zero():
    # A softmax over one channel is 1 everywhere: such a loss is 0 and stays 0.
    student, teacher = pair((2, 1, 4, 4))
    student.requires_grad_()
    LogitKL(2.0)(student, teacher).backward()
    # d/ds of T² KL(Bernoulli) is T (σ(s/T) − σ(t/T)), over the number of positions.
    expected = 2.0 * (torch.sigmoid(student / 2) - torch.sigmoid(teacher / 2)) / student.numel()
    torch.testing.assert_close(student.grad, expected.detach())
    assert student.grad.abs().min() > 0


@pytest.mark.parametrize("shape", [(4, 5), (2, 1, 4, 4)])
def test_gradient_scale_does_not_fall_with_temperature(shape):
    def norm(temperature: float) -> float:
        student, teacher = pair(shape)
        student.requires_grad_()
        LogitKL(temperature, activation(shape))(student, teacher).backward()
        return float(student.grad.norm())

    # Without T² a tenfold temperature would make the gradient a hundred times smaller.
    assert norm(1000.0) == pytest.approx(norm(100.0), rel=0.02)


@pytest.mark.parametrize(
    "tiles",
    [
        pytest.param((3, 1, 1, 1), id="batch"),  # (2, C, 4, 5) to (6, C, 4, 5)
        pytest.param((1, 1, 2, 3), id="image"),  # (2, C, 4, 5) to (2, C, 8, 15)
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_kl_does_not_grow_with_batch_or_image(channels, tiles):
    student, teacher = pair((2, channels, 4, 5))
    term = LogitKL(2.0, activation(student.shape))
    once, tiled = term(student, teacher), term(student.tile(tiles), teacher.tile(tiles))
    assert float(tiled) == pytest.approx(float(once), rel=1e-10)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_kl_finite_for_huge_logits(channels, sign):
    # (2, C, 3, 3): student and teacher as sure as can be, of opposite things
    teacher = sign * 1e4 * torch.tensor([1.0, -1.0])[:channels].reshape(1, channels, 1, 1).expand(2, channels, 3, 3)
    student = (-teacher).clone().requires_grad_()
    loss = LogitKL(1.0, activation(student.shape))(student, teacher)
    loss.backward()
    # One channel: z is 1e4 in σ(z) and −z beside it; two: their difference is 2e4. Both cost that many nats.
    assert float(loss.detach()) == pytest.approx(1e4 * channels)
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().max() > 0


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 4, 5), (2, 3, 2, 4, 5)])  # (B, C), (B, C, H, W), (B, C, H, W, D)
def test_sigmoid_channels_are_masks_of_their_own(shape):
    student, teacher = pair(shape)
    alone = [reference_kl(student[:, [c]], teacher[:, [c]], 2.0) for c in range(shape[1])]
    assert float(LogitKL(2.0, "sigmoid")(student, teacher)) == pytest.approx(np.mean(alone), rel=1e-10)


def test_sigmoid_channels_that_differ_by_a_constant():
    # Nested regions, say, all too small by the same amount: a softmax over them sees no difference.
    _, teacher = pair((2, 3, 4, 4))
    student = (teacher - 2).requires_grad_()
    assert float(LogitKL(2.0, "softmax")(student, teacher)) == pytest.approx(0.0, abs=1e-12)
    assert float(LogitMSE(2.0, "softmax")(student, teacher)) == pytest.approx(0.0, abs=1e-12)
    loss = LogitKL(2.0, "sigmoid")(student, teacher)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(
        np.mean([reference_kl(student.detach()[:, [c]], teacher[:, [c]], 2.0) for c in range(3)])
    )
    assert student.grad.abs().min() > 0


@pytest.mark.parametrize("shape", SHAPES)
def test_mse_equals_numpy(shape):
    student, teacher = pair(shape)
    expected = 2.5**2 * np.mean((student.numpy() - teacher.numpy()) ** 2)
    assert float(LogitMSE(2.5, "sigmoid")(student, teacher)) == pytest.approx(expected)
    assert float(LogitMSE(2.5, "sigmoid")(student, student.clone())) == 0.0


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.values[0][1] > 1])
def test_mse_of_a_softmax_is_blind_to_a_common_constant(shape):
    student, teacher = (z.numpy() for z in pair(shape))
    difference = student - teacher
    expected = 2.5**2 * np.mean((difference - difference.mean(axis=1, keepdims=True)) ** 2)
    found = LogitMSE(2.5, "softmax")(torch.tensor(student + 7), torch.tensor(teacher))
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize(("loss", "temperature"), [(LogitKL, 4.0), (LogitMSE, 1.0)])
def test_temperature_that_is_not_given(loss, temperature):
    student, teacher = pair((2, 3, 4, 4))
    given = loss(temperature, "softmax")
    assert torch.equal(loss(activation="softmax")(student, teacher), given(student, teacher))


@pytest.mark.parametrize("loss", [LogitKL, LogitMSE])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *[("sigmoid", shape) for shape in [(2, 1), (2, 3), (1, 1, 2, 2), (1, 2, 2, 2), (1, 2, 2, 1, 2)]],
        *[("softmax", shape) for shape in [(2, 3), (1, 2, 2, 2), (1, 2, 2, 1, 2)]],
    ],
)
def test_gradients(loss, name, shape):
    student, teacher = pair(shape)
    assert torch.autograd.gradcheck(lambda z: loss(2.0, name)(z, teacher), student.requires_grad_())


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", [LogitKL(2.0), LogitMSE(2.0)])
def test_half_precision_is_summed_in_single(loss, half):
    # 128² positions, and values of which float16 keeps three digits.
    student, teacher = (z.to(half) for z in pair((1, 1, 128, 128), scale=30.0))
    found = loss(student, teacher)
    assert found.dtype is torch.float32
    assert float(found) == pytest.approx(float(loss(student.double(), teacher.double())), rel=1e-4)


@pytest.mark.parametrize("loss", [LogitKL, LogitMSE])
@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (None, (2, 3), r"logits \(2, 3\) have 3 channels: set `activation` of the loss term to 'softmax'"),
        (None, (2, 2, 4, 4), "have 2 channels: set `activation`"),
        ("softmax", (2, 1, 4, 4), r"\(2, 1, 4, 4\) have one channel, whose softmax is 1 everywhere: set `activation`"),
    ],
)
def test_activation_must_fit_the_channels(loss, name, shape, message):
    with pytest.raises(ValueError, match=message):
        loss(activation=name)(torch.zeros(shape), torch.zeros(shape))


@pytest.mark.parametrize("loss", [LogitKL, LogitMSE])
def test_activation_must_be_known(loss):
    with pytest.raises(ValueError, match="activation must be 'sigmoid' or 'softmax', got 'tanh'"):
        loss(activation="tanh")


@pytest.mark.parametrize("loss", [LogitKL, LogitMSE])
@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_temperature_must_be_positive(loss, temperature):
    with pytest.raises(ValueError, match="temperature must be positive, got "):
        loss(temperature)


@pytest.mark.parametrize("loss", [LogitKL(), LogitMSE()])
def test_shapes_must_agree(loss):
    # (2, 1, 4, 4) and (2, 1, 4, 1) would broadcast in silence
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\) and teacher logits \(2, 1, 4, 1\) differ"):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 1))
