"""Cross-entropy of the class of a whole slice, beside its mask."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_kd.losses import DiceCE, DistillationLoss, SliceClassCE


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of four classes, masks of which the second is empty, and the classes of the data list."""
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(3, 1, 8, 8)
    masks[0, 0, 2, 3] = masks[2, 0, 4:6, 1] = 1
    return logits, masks, torch.tensor([2, 1, 0])


def test_an_image_without_a_mask_is_of_the_last_class(batch):
    logits, masks, numbers = batch
    expected = -(logits.log_softmax(1)[[0, 1, 2], [2, 3, 0]]).mean()
    torch.testing.assert_close(SliceClassCE()(logits, masks, numbers), expected)
    # An entry without a tumour may have the number of that class itself.
    torch.testing.assert_close(SliceClassCE()(logits, masks, torch.tensor([2, 3, 0])), expected)
    # Of several masks, any of them.
    torch.testing.assert_close(SliceClassCE()(logits, torch.cat([0 * masks, masks], 1), numbers), expected)


def test_a_class_that_the_network_does_not_have(batch):
    logits, masks, numbers = batch
    with pytest.raises(
        ValueError, match="gives 4 classes, the last of which is 'no tumour', and an image has the class 4"
    ):
        SliceClassCE()(logits, masks, numbers + 2)


def test_a_network_without_a_class_for_no_tumour(batch):
    """Its last class would be trained as "no tumour" and as a kind of tumour, by what the mask shows."""
    logits, masks, _ = batch
    with pytest.raises(
        ValueError, match="an image with a tumour has the class 3, counted from 0, which is 'no tumour'"
    ):
        SliceClassCE()(logits, masks, torch.tensor([3, 1, 0]))


def loss() -> DistillationLoss:
    return DistillationLoss({"dice": DiceCE(sigmoid=True), "class": SliceClassCE()}, {"dice": 1.0, "class": 0.5})


def test_the_sum_has_both_tasks(batch):
    logits, masks, numbers = batch
    classes, mask_logits = logits.requires_grad_(), torch.zeros(3, 1, 8, 8, requires_grad=True)
    both = loss()
    assert both.needs_classes
    assert not DistillationLoss({"dice": DiceCE(sigmoid=True)}, {"dice": 1.0}).needs_classes
    report = both({"student": mask_logits, "student_classes": classes}, masks, classes=numbers.tolist())
    target = torch.tensor([2, 3, 0])
    torch.testing.assert_close(report.terms["class"], F.cross_entropy(logits, target).detach())
    report.total.backward()
    torch.testing.assert_close(classes.grad, 0.5 * (logits.softmax(1) - F.one_hot(target, 4)).detach() / 3)
    assert mask_logits.grad.abs().sum() > 0


def test_items_without_a_label_have_no_class(batch):
    logits, masks, numbers = batch
    outputs = {"student": torch.zeros(3, 1, 8, 8), "student_classes": logits}
    report = loss()(outputs, masks, labelled=[True, False, False], classes=numbers.tolist())
    torch.testing.assert_close(report.terms["class"], F.cross_entropy(logits[:1], torch.tensor([2])))


def test_what_is_missing_is_said(batch):
    logits, masks, _ = batch
    with pytest.raises(ValueError, match="loss term 'class' needs student_classes, class"):
        loss()({"student": masks}, masks)
    with pytest.raises(ValueError, match="loss term 'class' needs class"):
        loss()({"student": masks, "student_classes": logits}, masks)
