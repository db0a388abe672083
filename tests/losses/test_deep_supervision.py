"""A supervised loss on every head, as a term of the loss of a distillation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from torch import nn

from monai_kd.losses import DeepSupervision, DistillationLoss, LogitMSE


def heads() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 1, side, side) for side in (16, 8, 4)]


def label() -> torch.Tensor:
    return (torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) > 0).float()


def loss(**kwargs) -> DistillationLoss:
    dice = DiceCELoss(sigmoid=True)
    return DistillationLoss({"ds": DeepSupervision(dice, **kwargs), "kd": LogitMSE()}, {"ds": 1.0, "kd": 1.0})


@pytest.mark.parametrize(
    ("kwargs", "weights"),
    [({}, (1, 0.5, 0.25)), ({"weight_mode": "two"}, (1, 0.5, 0.5)), ({"weights": [3.0, 2.0, 1.0]}, (3, 2, 1))],
)
def test_heads_are_supervised_and_the_main_one_is_distilled(kwargs, weights):
    logits, teacher = heads(), torch.zeros(2, 1, 16, 16)
    found = loss(**kwargs)({"student": logits[0], "student_heads": logits, "teacher": teacher}, label())
    dice = DiceCELoss(sigmoid=True)
    smaller = [F.interpolate(label(), size=each.shape[2:], mode="nearest-exact") for each in logits]
    expected = sum(w * dice(z, y) for w, z, y in zip(weights, logits, smaller, strict=True))
    torch.testing.assert_close(found.terms["ds"], expected)
    torch.testing.assert_close(found.terms["kd"], logits[0].square().mean())


def test_a_network_without_deep_supervision_has_one_head():
    logits = heads()[0]
    found = loss()({"student": logits, "teacher": logits}, label())
    assert torch.equal(found.terms["ds"], DiceCELoss(sigmoid=True)(logits, label()))


def test_needs_no_teacher():
    assert not DistillationLoss({"ds": DeepSupervision(nn.MSELoss())}, {"ds": 1.0}).needs_teacher
