"""Loss terms are called once before any training, so that one that does not fit is found at once."""

from __future__ import annotations

import json
import threading

import pytest
import torch
from monai import losses as of_monai
from monai.bundle import create_workflow
from tiny import OVERRIDES, cause, config
from torch import nn

from monai_kd.bundle.trial_runs import check_terms
from monai_kd.losses import BoundaryKL, DeepSupervision, DiceCE, DistillationLoss, LogitKL

IMAGE = (8, 8)
MASK, MASKS, CLASSES = {"mask_names": ["tumour"]}, {"mask_names": ["core", "whole"]}, {"class_names": ["a", "b", "c"]}
MULTICLASS = {**MASKS, "multiclass": True}


def check(term: nn.Module, logits: tuple[int, ...], settings: dict) -> None:
    check_terms(DistillationLoss({"mine": term}, {"mine": 0.5}), logits, settings)


@pytest.mark.parametrize(
    ("term", "logits", "settings"),
    [
        (of_monai.DiceLoss(sigmoid=True), (1, *IMAGE), MASK),
        (of_monai.FocalLoss(), (2, *IMAGE), MASKS),
        (of_monai.TverskyLoss(sigmoid=True, batch=True), (2, 4, *IMAGE), MASKS),
        (of_monai.HausdorffDTLoss(sigmoid=True), (1, *IMAGE), MASK),
        (of_monai.DiceCELoss(softmax=True, to_onehot_y=True), (3, *IMAGE), MULTICLASS),
        (of_monai.GeneralizedDiceLoss(softmax=True, to_onehot_y=True), (3, *IMAGE), MULTICLASS),
        (DiceCE(sigmoid=True), (1, *IMAGE), MASK),
        (LogitKL(activation="sigmoid"), (1, *IMAGE), MASK),
        (BoundaryKL(), (1, *IMAGE), MASK),
        (nn.CrossEntropyLoss(), (3,), CLASSES),
        (nn.CrossEntropyLoss(), (1000,), {}),
        (nn.CrossEntropyLoss(), (3,), {**CLASSES, "mixup": 0.4}),
        (nn.MultiMarginLoss(), (2,), CLASSES),
        (of_monai.FocalLoss(to_onehot_y=True), (3,), CLASSES),
    ],
)
def test_losses_that_fit_are_taken(term, logits, settings):
    check(term, logits, settings)


@pytest.mark.parametrize(
    ("term", "logits", "settings", "message"),
    [
        (
            of_monai.FocalLoss(),
            (3,),
            CLASSES,
            r"loss term 'mine': ground truth has different shape .* It is called with student \(3, 3\) and label "
            r"\(3,\) of class numbers: correct terms#mine",
        ),
        (of_monai.DiceCELoss(softmax=True), (3, *IMAGE), MULTICLASS, r"label \(2, 1, 8, 8\) of class numbers"),
        (
            of_monai.FocalLoss(reduction="none"),
            (1, *IMAGE),
            MASK,
            r"loss term 'mine' returns a tensor \(2, 1, 8, 8\), and a tensor of one number .* of 0 and 1: correct",
        ),
        (nn.MultiMarginLoss(), (3,), {**CLASSES, "mixup": 0.4}, "of probabilities: correct terms#mine"),
        (
            LogitKL(activation="softmax"),
            (1, *IMAGE),
            MASK,
            r"student \(2, 1, 8, 8\) and teacher \(2, 1, 8, 8\): correct",
        ),
    ],
)
def test_one_that_does_not_is_named_with_what_it_gets(term, logits, settings, message):
    with pytest.raises(ValueError, match=message):
        check(term, logits, settings)


class Counted(nn.Module):
    """Counts its calls, and draws a number."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, student: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (student * torch.rand(())).mean()


class Flat(nn.Module):
    """As many write it: by views, and with the label changed in place."""

    def forward(self, student: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return (student.view(-1) - label.mul_(0.9).add_(0.05).view(-1)).square().mean()


class GradientPenalty(nn.Module):
    def forward(self, student: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        loss = (student.sigmoid() - label).square().mean()
        (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
        return loss + gradient.square().mean()


class Locked(nn.Module):
    """Which can't be copied, and would fail."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Several(nn.Module):
    def forward(self, student: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return student.mean(), label.mean()


@pytest.mark.parametrize("term", [Flat(), GradientPenalty(), Locked()], ids=lambda term: type(term).__name__)
@pytest.mark.parametrize("logits", [(1, *IMAGE), (1, 4, *IMAGE)])
def test_what_trains_is_not_refused(term, logits):
    check(term, logits, MASK)


def test_a_label_that_one_term_changes_is_as_it_was_for_the_next():
    """Numbers of classes would be none any more."""
    loss = DistillationLoss({"flat": Flat(), "ce": DiceCE(softmax=True, to_onehot_y=True)}, {"flat": 1, "ce": 1})
    loss.terms["flat"].forward = lambda student, label: student.mean() + label.add_(100).mean()
    check_terms(loss, (3, *IMAGE), MULTICLASS)


def test_one_that_returns_several():
    with pytest.raises(ValueError, match="loss term 'mine' returns a tuple, and a tensor of one number is needed"):
        check(Several(), (1, *IMAGE), MASK)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (of_monai.DiceLoss(sigmoid=True), None),
        (of_monai.FocalLoss(reduction="none"), r"loss term 'mine'.*student_heads \(2, 1, 8, 8\) and label"),
        (of_monai.DiceLoss(softmax=True, to_onehot_y=True), None),
    ],
)
def test_the_loss_of_all_heads_is_tried_too(inner, message):
    """The supervised term of the segmentation bundles."""
    logits, settings = ((3, *IMAGE), MULTICLASS) if getattr(inner, "to_onehot_y", False) else ((1, *IMAGE), MASK)
    if message is None:
        check(DeepSupervision(inner), logits, settings)
    else:
        with pytest.raises(ValueError, match=message):
            check(DeepSupervision(inner), logits, settings)


def test_terms_and_random_numbers_are_left_as_they_were():
    term = Counted()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check(term, (1, *IMAGE), MASK)
    assert term.calls == 0
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("recipe", [{"ce": 1, "focal": 1}, {"ce": 1, "logit": 1, "focal": 1}])
def test_it_is_found_before_the_teacher_is_trained(class_dataset, tmp_path, recipe):
    focal = {"_target_": "monai.losses.FocalLoss", "_mode_": "callable"}
    (tmp_path / "focal.json").write_text(json.dumps({"terms#focal": focal}))
    files = [*config("cls_student", "train"), str(tmp_path / "focal.json")]
    given = {"dataset_dir": str(class_dataset), "output_dir": str(tmp_path / "run"), "weights": recipe}
    workflow = create_workflow(config_file=files, workflow_type="train", **{**OVERRIDES["cls_student"], **given})
    with pytest.raises(Exception) as caught:  # MONAI wraps it
        workflow.run()
    assert "loss term 'focal': ground truth has different shape" in cause(caught.value)
    assert not list(tmp_path.glob("run/**/*.pt"))
