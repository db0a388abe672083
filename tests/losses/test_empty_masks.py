"""Every loss term on batches in which no slice, or only some slices, have a tumour."""

import pytest
import torch
from monai.losses import DiceLoss
from torch import nn

from monai_kd import losses

# Terms and what they take; the masks of a sigmoid, and the indices of classes of a softmax.
LOGITS = {
    "supervised": lambda activation: losses.DeepSupervision(
        losses.DiceCE(**{activation: True}, to_onehot_y=activation == "softmax")
    ),
    "over_batch": lambda activation: losses.DiceCE(
        **{activation: True}, to_onehot_y=activation == "softmax", batch=True
    ),
    "bce": lambda activation: losses.MaskBCE(activation=activation),
    "output": lambda activation: losses.LogitMSE(temperature=2.0, activation=activation),
    "logit": lambda activation: losses.LogitKL(temperature=2.0, activation=activation),
    "edge": lambda activation: losses.EdgeLoss(activation=activation),
    "channel": lambda activation: losses.ChannelWiseKL(),
    "dist": lambda activation: losses.CorrelationLoss(activation=activation),
    "soft_dice": lambda activation: losses.SoftDice(activation=activation),
    "boundary": lambda activation: losses.BoundaryKL(activation=activation),
    "edge_kl": lambda activation: losses.EdgeKL(activation=activation),
    "body_kl": lambda activation: losses.BodyKL(activation=activation),
}
FEATURES = {
    "feature": losses.FeatureLoss,
    "pooled_feature": losses.MultiScaleFusionLoss,
    "attention": losses.AttentionLoss,
}
# Logits of an untrained network, of a sure one, and of one that is the same everywhere.
STUDENTS = {"untrained": (1.0, 0.0), "sure": (30.0, -40.0), "constant": (0.0, -5.0)}


def logits(kind: str, channels: int, seed: int) -> torch.Tensor:
    scale, shift = STUDENTS[kind]
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(4, channels, 16, 16, generator=generator) + shift


def value_of(term: nn.Module, student: torch.Tensor, teacher: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    given = {"student": student, "student_heads": [student], "teacher": teacher, "label": label}
    names = getattr(term, "inputs", ("student", "label"))
    return term(*(given[name] for name in names))


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("name", LOGITS)
def test_terms_on_logits_are_finite_without_any_tumour(name, activation, kind):
    if (name, activation) == ("bce", "softmax"):
        pytest.skip("a binary cross-entropy has no softmax")
    channels = 1 if activation == "sigmoid" else 3
    student = logits(kind, channels, 0).requires_grad_()
    for teacher in (logits(each, channels, 1) for each in STUDENTS):
        value = value_of(LOGITS[name](activation), student, teacher, torch.zeros(4, 1, 16, 16))
        gradient = torch.autograd.grad(value, student)[0]
        assert torch.isfinite(value)
        assert value >= 0
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", FEATURES)
def test_terms_on_features_are_finite_where_features_vanish(name):
    for scale in (0.0, 1.0, 100.0):
        student, teacher = (scale * torch.randn(2, 4, 8, 8) for _ in range(2))
        student.requires_grad_()
        value = FEATURES[name]()({"d1": student}, {"d1": teacher})
        assert torch.isfinite(value)
        assert torch.isfinite(torch.autograd.grad(value, student)[0]).all()


@pytest.mark.parametrize("name", ["supervised", "over_batch", "bce"])
def test_supervised_terms_lower_what_is_marked_without_a_tumour(name):
    student = logits("untrained", 1, 0).requires_grad_()
    value = value_of(LOGITS[name]("sigmoid"), student, student, torch.zeros(4, 1, 16, 16))
    assert (torch.autograd.grad(value, student)[0] > 0).all()


def test_dice_of_one_slice_is_blind_to_false_marks_and_that_of_the_batch_is_not():
    """Two slices, the second without a tumour and with false marks of 64 pixels."""
    label = torch.zeros(2, 1, 16, 16)
    label[0, :, 4:12, 4:12] = 1
    student = torch.full((2, 1, 16, 16), -6.0)
    student[0, :, 4:12, 4:12] = student[1, :, :8, :8] = 2
    student.requires_grad_()
    of_slices, of_batch = (
        torch.autograd.grad(losses.DiceCE(sigmoid=True, batch=batch, lambda_ce=0)(student, label), student)[0][1]
        for batch in (False, True)
    )
    assert of_slices.abs().max() < 1e-7
    assert (of_batch[:, :8, :8] > 1e-4).all()


def test_dice_term_without_a_tumour_is_the_documented_one():
    student = torch.full((1, 1, 4, 4), -2.0)
    total = 16 * student.sigmoid()[0, 0, 0, 0]
    expected = 1 - 1e-5 / (total + 1e-5)
    assert DiceLoss(sigmoid=True)(student, torch.zeros(1, 1, 4, 4)) == pytest.approx(float(expected))
    found = losses.DiceCE(sigmoid=True, lambda_ce=0)(student, torch.zeros(1, 1, 4, 4))
    assert float(found) == pytest.approx(float(expected))
