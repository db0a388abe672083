"""Batches in which some items have no label."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_kd.losses import (
    AttentionLoss,
    BoundaryKL,
    DeepSupervision,
    DiceCE,
    DistillationLoss,
    EdgeLoss,
    FeatureLoss,
    LogitKL,
    Projections,
)

LABELLED = torch.tensor([True, False, True, False])
OF_LABEL = ("supervised", "edge")


def terms() -> dict[str, nn.Module]:
    own = {"supervised": DeepSupervision(DiceCE(sigmoid=True)), "edge": EdgeLoss()}
    return {**own, "logit": LogitKL(2.0), "feature": FeatureLoss(), "attention": AttentionLoss()}


def loss() -> DistillationLoss:
    torch.manual_seed(3)
    return DistillationLoss(terms(), dict.fromkeys(terms(), 1.0), Projections({"d1": (3, 5)}))


def outputs() -> dict:
    torch.manual_seed(0)
    student = torch.randn(4, 1, 8, 8, requires_grad=True)
    return {
        "student": student,
        "student_heads": [student, torch.randn(4, 1, 4, 4, requires_grad=True)],
        "teacher": torch.randn(4, 1, 8, 8),
        "student_features": {"d1": torch.randn(4, 3, 8, 8, requires_grad=True)},
        "teacher_features": {"d1": torch.randn(4, 5, 8, 8)},
    }


def masks() -> torch.Tensor:
    return (torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(9)) > 0.5).float()


def part(value, rows):
    """Some rows of everything, written without the package."""
    if isinstance(value, dict):
        return {name: part(each, rows) for name, each in value.items()}
    return [part(each, rows) for each in value] if isinstance(value, list) else value[rows]


def test_terms_that_need_a_label_see_those_that_have_one():
    given, label = outputs(), masks()
    mixed = loss()(given, label, LABELLED)
    all_of_them, some = loss()(given, label), loss()(part(given, LABELLED), label[LABELLED])
    for name in terms():
        expected = some if name in OF_LABEL else all_of_them
        torch.testing.assert_close(mixed.terms[name], expected.terms[name])
    torch.testing.assert_close(mixed.total.detach(), sum(mixed.weighted.values()))
    assert mixed.undefined == ()


def test_labels_of_the_others_are_not_used():
    given, label = outputs(), masks()
    other = torch.where(LABELLED.reshape(-1, 1, 1, 1), label, torch.nan)
    assert torch.equal(loss()(given, label, LABELLED).total, loss()(given, other, LABELLED).total)


def test_gradients_are_where_they_belong():
    supervised, compared = outputs(), outputs()
    only = DistillationLoss({"supervised": DiceCE(sigmoid=True)}, {"supervised": 1.0})
    only(supervised, masks(), LABELLED).total.backward()
    gradient = supervised["student"].grad.abs().amax(dim=(1, 2, 3))
    assert torch.equal(gradient > 0, LABELLED)
    DistillationLoss({"logit": LogitKL()}, {"logit": 1.0})(compared, masks(), LABELLED).total.backward()
    assert (compared["student"].grad.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_nothing_changes_where_all_have_labels():
    given, label = outputs(), masks()
    assert torch.equal(loss()(given, label).total, loss()(given, label, torch.ones(4, dtype=torch.bool)).total)


def test_no_item_has_a_label():
    report = loss()(outputs(), masks(), torch.zeros(4, dtype=torch.bool))
    assert set(report.undefined) == set(OF_LABEL)
    assert [float(report.terms[name]) for name in OF_LABEL] == [0, 0]
    without = {name: term for name, term in terms().items() if name not in OF_LABEL}
    torch.manual_seed(3)
    alone = DistillationLoss(without, dict.fromkeys(without, 1.0), Projections({"d1": (3, 5)}))(outputs())
    torch.testing.assert_close(report.total, alone.total)


def test_each_head_has_a_gradient_without_any_label():
    """As DistributedDataParallel needs; of the second head, no other term has one."""
    given = outputs()
    loss()(given, masks(), torch.zeros(4, dtype=torch.bool)).total.backward()
    first, second = given["student_heads"]
    assert first.grad.any()
    assert torch.equal(second.grad, torch.zeros_like(second))


def test_no_item_has_a_label_and_no_term_compares():
    given = outputs()
    only = DistillationLoss({"ce": DiceCE(sigmoid=True)}, {"ce": 1.0})
    only(given, masks(), torch.zeros(4, dtype=torch.bool)).total.backward()
    assert not given["student"].grad.any()


def test_no_class_is_known():
    logits = torch.randn(4, 3, requires_grad=True)
    only = DistillationLoss({"ce": nn.CrossEntropyLoss()}, {"ce": 1.0})
    only({"student": logits}, torch.zeros(4, dtype=torch.long), torch.zeros(4, dtype=torch.bool)).total.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"supervised": 1, "logit": 1}, True),
        ({"supervised": 1, "logit": 0}, False),
        ({"supervised": 1}, False),
        ({"supervised": 1, "boundary": 1}, False),
        ({"feature": 1}, True),
    ],
)
def test_recipes_that_learn_from_images_without_a_label(weights, expected):
    known = {**{name: (lambda term=term: term) for name, term in terms().items()}, "boundary": BoundaryKL}
    assert DistillationLoss.from_recipe(known, weights).learns_unlabelled is expected


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 3.0])])
def test_classes(weight):
    logits, classes = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 0, 2, 0])
    ce = nn.CrossEntropyLoss(weight)
    kd = DistillationLoss({"ce": ce, "logit": LogitKL(4.0, activation="softmax")}, {"ce": 0.1, "logit": 0.9})
    report = kd({"student": logits, "teacher": torch.randn(4, 3)}, classes, LABELLED)
    torch.testing.assert_close(report.terms["ce"], ce(logits[[0, 2]], classes[[0, 2]]).detach())
