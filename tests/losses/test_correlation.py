"""Correlation of predictions against scipy, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from scipy.stats import pearsonr

from monai_kd.losses import CorrelationLoss


def pair(shape: tuple[int, ...], scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def reference_rows(student: np.ndarray, teacher: np.ndarray) -> float:
    """1 − mean ρ over classes, of probabilities (B, C, …), one position after the other."""
    s, t = (np.moveaxis(y, 1, -1).reshape(-1, y.shape[1]) for y in (student, teacher))
    return 1 - np.mean([pearsonr(a, b).statistic for a, b in zip(s, t, strict=True)])


def reference_columns(student: np.ndarray, teacher: np.ndarray) -> float:
    """1 − mean ρ over the positions of one image, or over the batch of probabilities (B, C)."""
    if student.ndim == 2:
        student, teacher = student.T[None], teacher.T[None]
    found = [
        pearsonr(student[index].ravel(), teacher[index].ravel()).statistic for index in np.ndindex(*student.shape[:2])
    ]
    return 1 - np.mean(found)


@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1.0, 1.0, 1.0), (2.0, 0.5, 4.0), (0.0, 1.0, 1.0)])
@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((6, 4), id="classification"),  # (B, C): columns over the batch
        pytest.param((2, 3, 4, 5), id="map-2d"),  # (B, C, H, W)
        pytest.param((2, 4, 2, 3, 5), id="map-3d"),  # (B, C, H, W, D)
    ],
)
def test_softmax_equals_scipy(shape, beta, gamma, temperature):
    student, teacher = pair(shape)
    s, t = (softmax(z.numpy() / temperature, axis=1) for z in (student, teacher))
    expected = temperature**2 * (beta * reference_rows(s, t) + gamma * reference_columns(s, t))
    found = CorrelationLoss(beta, gamma, temperature, "softmax")(student, teacher)
    assert float(found) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize(
    ("shape", "activation"),
    [
        ((2, 1, 4, 5), None),  # (B, 1, H, W): one mask
        ((2, 1, 2, 4, 5), "sigmoid"),  # (B, 1, H, W, D)
        ((2, 3, 4, 5), "sigmoid"),  # (B, C, H, W): a mask for each channel
        ((6, 1), None),  # (B, 1): over the batch
    ],
)
def test_sigmoid_has_columns_alone(shape, activation, temperature):
    student, teacher = pair(shape)
    expected = temperature**2 * reference_columns(*(expit(z.numpy() / temperature) for z in (student, teacher)))
    for beta in (0.0, 3.0):
        found = CorrelationLoss(beta, 1.0, temperature, activation)(student, teacher)
        assert float(found) == pytest.approx(expected, rel=1e-9)


def test_columns_are_of_one_image():
    # An image that is brighter all over: over the whole batch it would correlate, in itself it does not.
    student, teacher = torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)
    student[0, 0], teacher[0, 0] = torch.tensor([1.0, -1, 1, -1]), torch.tensor([1.0, 1, -1, -1])
    student[1], teacher[1] = student[0] + 5, teacher[0] + 5
    assert float(CorrelationLoss()(student, teacher)) == pytest.approx(1.0, abs=1e-6)


def test_two_classes_have_rows_of_plus_or_minus_one_without_gradient():
    student, teacher = pair((2, 2, 4, 5))
    agree = ((student[:, 0] > student[:, 1]) == (teacher[:, 0] > teacher[:, 1])).double().mean()
    rows = CorrelationLoss(1.0, 0.0, activation="softmax")(student, teacher)
    assert float(rows) == pytest.approx(2 * (1 - float(agree)))
    # The equation itself, by another way: nothing but rounding errors.
    z = student.clone().requires_grad_()
    s, t = z.softmax(dim=1).movedim(1, -1).reshape(-1, 2), teacher.softmax(dim=1).movedim(1, -1).reshape(-1, 2)
    equation = 1 - torch.stack([torch.corrcoef(torch.stack(each))[0, 1] for each in zip(s, t, strict=True)]).mean()
    equation.backward()
    assert float(equation.detach()) == pytest.approx(float(rows))
    assert z.grad.abs().max() < 1e-10
    # Here: the gradient of both terms is that of the columns, to the last digit.
    gradients = []
    for beta in (0.0, 1.0):
        z = student.clone().requires_grad_()
        CorrelationLoss(beta, 1.0, activation="softmax")(z, teacher).backward()
        gradients.append(z.grad)
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 1e-4


@pytest.mark.parametrize(
    ("shape", "activation"), [((2, 3, 4, 4), "softmax"), ((2, 1, 4, 4), None), ((5, 4), "softmax")]
)
def test_zero_when_equal_and_blind_to_scale(shape, activation):
    student, _ = pair(shape)
    assert float(CorrelationLoss(activation=activation)(student, student.clone())) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 2, 3), (1, 3, 2, 1, 2), (3, 4)])
def test_gradients_of_a_softmax(shape):
    student, teacher = pair(shape)
    loss = CorrelationLoss(1.0, 2.0, 2.0, "softmax")
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher), student.requires_grad_())


@pytest.mark.parametrize("shape", [(2, 1, 2, 3), (2, 2, 2, 1, 2)])
def test_gradients_of_a_sigmoid(shape):
    student, teacher = pair(shape)
    loss = CorrelationLoss(activation="sigmoid")
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher), student.requires_grad_())


def test_images_in_which_the_teacher_is_constant_are_left_out():
    student, teacher = pair((3, 1, 4, 5))
    # A slice without tumour: the teacher is sure that there is none, but for noise.
    teacher[1] = -15 + 0.1 * teacher[1]
    alone = CorrelationLoss()(student[[0, 2]], teacher[[0, 2]])
    assert float(CorrelationLoss()(student, teacher)) == pytest.approx(float(alone), rel=1e-10)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        pytest.param(0.0, 0.0, id="both-constant"),
        pytest.param(200.0, -200.0, id="both-saturated"),
        pytest.param(0.0, None, id="student-constant"),  # as a last layer that starts at zero
        pytest.param(-200.0, None, id="student-saturated"),
    ],
)
def test_no_correlation_is_neither_nan_nor_a_huge_gradient(student, teacher, activation):
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    student = torch.full((2, 3, 4, 4), student).requires_grad_()
    teacher = noise if teacher is None else torch.full((2, 3, 4, 4), teacher)
    loss = CorrelationLoss(activation=activation)(student, teacher)
    loss.backward()
    assert torch.isfinite(loss)
    assert 0 <= float(loss.detach()) <= 2
    assert student.grad.abs().max() < 1e3


def test_a_batch_of_one_has_no_columns():
    student, teacher = pair((1, 4))
    s, t = (softmax(z.numpy(), axis=1) for z in (student, teacher))
    assert float(CorrelationLoss(activation="softmax")(student, teacher)) == pytest.approx(reference_rows(s, t))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_single(half):
    student, teacher = (z.to(half) for z in pair((1, 1, 128, 128)))
    found = CorrelationLoss()(student, teacher)
    assert found.dtype is torch.float32
    assert float(found) == pytest.approx(float(CorrelationLoss()(student.double(), teacher.double())), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -1.0}, "beta and gamma must not be negative nor both 0, got -1.0 and 1.0"),
        ({"beta": 0.0, "gamma": 0.0}, "nor both 0, got 0.0 and 0.0"),
        ({"gamma": np.nan}, "got 1.0 and nan"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"activation": "relu"}, "activation must be 'sigmoid' or 'softmax', got 'relu'"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        CorrelationLoss(**arguments)


def test_several_channels_need_an_activation():
    with pytest.raises(ValueError, match="have 3 channels: set `activation`"):
        CorrelationLoss()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\) and teacher logits \(2, 1, 4, 1\) differ"):
        CorrelationLoss()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 1))
