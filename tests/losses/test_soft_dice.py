"""Dice of two maps of probability against numpy, MONAI's Dice of masks, and its own minimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from scipy.special import expit, softmax

from monai_kd.losses import SoftDice


def pair(shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    ("shape", "activation"),
    [
        ((2, 1, 4, 5), None),  # (B, 1, H, W): one mask
        ((2, 3, 4, 5), "sigmoid"),  # (B, C, H, W): a mask for each channel
        ((2, 3, 4, 5), "softmax"),  # (B, C, H, W): classes
        ((2, 4, 2, 3, 5), "softmax"),  # (B, C, H, W, D)
    ],
)
def test_it_is_the_share_of_what_differs(shape, activation, batch):
    student, teacher = pair(shape)
    s, t = (softmax(z.numpy(), axis=1) if activation == "softmax" else expit(z.numpy()) for z in (student, teacher))
    axes = (0, *range(2, len(shape))) if batch else tuple(range(2, len(shape)))
    expected = (np.abs(s - t).sum(axes) / ((s + t).sum(axes) + 1e-5)).mean()
    found = SoftDice(activation, batch)(student, teacher)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_for_a_teacher_that_is_sure_it_is_the_dice_loss_of_its_mask():
    student, teacher = pair((2, 1, 6, 6))
    mask = (teacher > 0).double()
    expected = DiceLoss(sigmoid=True)(student, mask)
    assert float(SoftDice()(student, 200 * (mask - 0.5))) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize(("channels", "activation"), [(1, None), (3, "softmax")])
def test_it_is_lowest_where_student_and_teacher_are_equal(channels, activation):
    teacher = pair((1, channels, 6, 6))[0]
    term = SoftDice(activation)
    assert float(term(teacher, teacher)) == 0
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        other = teacher + 1e-3 * torch.randn(teacher.shape, generator=generator, dtype=torch.float64)
        assert float(term(other, teacher)) > 0
    # The usual Dice loss is not: it is lower for a student that is surer than its teacher.
    if activation is None:
        usual, p = DiceLoss(sigmoid=True), teacher.sigmoid()
        assert float(usual(2 * teacher, p)) < float(usual(teacher, p))


def test_the_gradient_leads_to_the_teacher():
    student, teacher = pair((1, 1, 6, 6))
    student.requires_grad_()
    gradient = torch.autograd.grad(SoftDice()(student, teacher), student)[0]
    # d/dp of D / S is (± 1 − D / S) / S, and D / S < 1.
    assert torch.equal(gradient.sign(), (student - teacher).sign())


def test_a_ground_without_a_tumour_does_not_change_it():
    student, teacher = pair((1, 1, 6, 6))
    wide = [torch.nn.functional.pad(z, [20] * 4, value=-50.0) for z in (student, teacher)]
    assert float(SoftDice()(*wide)) == pytest.approx(float(SoftDice()(student, teacher)), rel=1e-6)


def test_where_both_see_nothing_it_is_0():
    empty = torch.full((2, 1, 6, 6), -200.0, requires_grad=True)
    loss = SoftDice()(empty, empty.detach() - 5)
    assert float(loss) == 0
    assert torch.isfinite(torch.autograd.grad(loss, empty)[0]).all()


def test_half_precision_is_summed_in_float32():
    student, teacher = (z.to(torch.bfloat16) for z in pair((1, 1, 256, 256)))
    found, exact = SoftDice()(student, teacher), SoftDice()(student.double(), teacher.double())
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftDice(smooth=0), "smooth must be positive"),
        (lambda: SoftDice("tanh"), "activation must be"),
        (lambda: SoftDice()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 8)), "differ"),
        (lambda: SoftDice()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)), "set `activation`"),
        (lambda: SoftDice("softmax")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)), "one channel"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
