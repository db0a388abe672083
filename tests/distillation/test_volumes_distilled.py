"""Distillation of networks of volumes: every loss, the tapped layers, and whose gradients there are."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet, SegResNet
from torch import nn

from monai_kd.distillation import Distiller, fitted_projections, rehearse
from monai_kd.losses import (
    AttentionLoss,
    BodyKL,
    BoundaryKL,
    ChannelWiseKL,
    DiceCE,
    DistillationLoss,
    EdgeKL,
    EdgeLoss,
    FeatureLoss,
    LogitKL,
    LogitMSE,
    MultiScaleFusionLoss,
)

STUDENT_TAPS = {"d4": "upcat_4", "d3": "upcat_3", "d2": "upcat_2", "d1": "upcat_1"}
TEACHER_TAPS = {"d4": "down_layers.3", "d3": "up_layers.0", "d2": "up_layers.1", "d1": "up_layers.2"}
SIZE = (16, 16, 32)
TERMS: dict[str, nn.Module] = {
    "supervised": DiceCE(sigmoid=True),
    "logit": LogitKL(activation="sigmoid"),
    "output": LogitMSE(activation="sigmoid"),
    "channel_wise": ChannelWiseKL(),
    "boundary": BoundaryKL(activation="sigmoid"),
    "edge": EdgeLoss(activation="sigmoid"),
    "feature": FeatureLoss(),
    "pooled_feature": MultiScaleFusionLoss(),
    "attention": AttentionLoss(),
    "edge_kl": EdgeKL(activation="sigmoid"),
    "body_kl": BodyKL(activation="sigmoid"),
}


@pytest.fixture(scope="module")
def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    student = BasicUNet(3, 4, 3, features=[4, 4, 8, 8, 8, 4], norm="batch")
    return student, SegResNet(3, init_filters=8, in_channels=4, out_channels=3)


def test_taps_of_both_lie_on_the_same_grids(networks):
    found = rehearse(*networks, STUDENT_TAPS, TEACHER_TAPS, image=torch.zeros(2, 4, *SIZE))
    for step, name in zip((8, 4, 2, 1), STUDENT_TAPS, strict=True):
        grid = tuple(side // step for side in SIZE)
        assert found.student_shapes[name][2:] == found.teacher_shapes()[name][2:] == grid
    assert found.shapes["student"] == found.shapes["teacher"] == (2, 3, *SIZE)


@pytest.mark.parametrize("term", TERMS)
def test_each_loss_teaches_the_student_alone(networks, term):
    student, teacher = networks
    image = torch.randn(2, 4, *SIZE, generator=torch.Generator().manual_seed(1))
    label = torch.zeros(2, 3, *SIZE)
    for number in range(3):  # within each other
        label[:, number, number : 14 - number, number : 14 - number, number : 24 - number] = 1
    needs = "features" in "".join(getattr(TERMS[term], "inputs", ()))
    taps = (STUDENT_TAPS, TEACHER_TAPS) if needs else ({}, {})
    projections = fitted_projections(student, teacher, *taps, image=image) if needs else None
    loss = DistillationLoss({term: TERMS[term]}, {term: 1.0}, projections)
    student.zero_grad()
    report = loss(Distiller(student, teacher, *taps).train()(image), label)
    assert report.total > 0
    report.total.backward()
    assert student.conv_0.conv_0.conv.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
