"""The rehearsal: shapes it finds, what it leaves alone, and projections made from it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_kd.distillation import Distiller, fitted_projections, may_be_probabilities, rehearse
from monai_kd.losses import DistillationLoss, FeatureLoss, LogitKL, Projections, WithTeacher


def small(channels: int, width: int, dims: int = 2, stride: int = 1) -> nn.Sequential:
    """(B, channels, …) to (B, 1, …), with what changes by itself in training: statistics and dropout."""
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
    return nn.Sequential(
        conv(channels, width, 3, padding=1, stride=stride), norm(width), nn.ReLU(), nn.Dropout(0.5), conv(width, 1, 1)
    )


TAPS = {"late": "2", "early": "0"}


@pytest.mark.parametrize(
    ("dims", "image", "teacher_image", "student_shape", "teacher_shape"),
    [
        # one image for both
        (2, (2, 1, 8, 6), None, (2, 3, 8, 6), (2, 5, 8, 6)),
        # the teacher's own: three channels, twice the size
        (2, (2, 1, 8, 6), (2, 3, 16, 12), (2, 3, 8, 6), (2, 5, 16, 12)),
        (3, (1, 1, 4, 5, 6), (1, 2, 4, 4, 4), (1, 3, 4, 5, 6), (1, 5, 4, 4, 4)),
    ],
)
def test_shapes(dims, image, teacher_image, student_shape, teacher_shape):
    student, teacher = small(1, 3, dims), small((teacher_image or image)[1], 5, dims)
    images = {"image": torch.zeros(image), "teacher_image": torch.zeros(teacher_image) if teacher_image else None}
    found = rehearse(student, teacher, TAPS, TAPS, **images)
    assert found.student_shapes == dict.fromkeys(TAPS, student_shape)
    assert found.teacher_shapes() == dict.fromkeys(TAPS, teacher_shape)
    assert list(found.student_shapes) == list(TAPS)
    projections = fitted_projections(student, teacher, TAPS, TAPS, side="student", **images)
    assert all(layer.weight.shape == (5, 3, *[1] * dims) for layer in projections.layers.values())


def test_nothing_is_left_behind():
    student, teacher = small(1, 3).train(), small(1, 5).train()
    student[4].eval()
    student(torch.randn(2, 1, 8, 8)).sum().backward()
    networks = [student, teacher]
    state = [{k: v.clone() for k, v in network.state_dict().items()} for network in networks]
    gradients = [p.grad.clone() for p in student.parameters()]
    loss = DistillationLoss({"f": FeatureLoss()}, {"f": 1.0}, Projections(dict.fromkeys(TAPS, (3, 5))))
    modes = [[module.training for module in each.modules()] for each in (*networks, loss)]
    image = torch.randn(2, 1, 8, 8)
    random = torch.get_rng_state()
    rehearse(student, teacher, TAPS, TAPS, image=image, loss=loss)
    assert torch.equal(torch.get_rng_state(), random)
    assert [[module.training for module in each.modules()] for each in (*networks, loss)] == modes
    for network, before in zip(networks, state, strict=True):
        after = network.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert all(p.requires_grad for p in network.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(torch.equal(p.grad, before) for p, before in zip(student.parameters(), gradients, strict=True))
    assert all(p.grad is None for p in [*teacher.parameters(), *loss.parameters()])


class Drawing(nn.Module):
    """A network that draws random numbers in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + torch.rand_like(x))


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_weights_of_a_seed_are_those_without_a_rehearsal(side):
    student, teacher, taps = Drawing(), small(1, 5), {"a": "layer"}
    torch.manual_seed(7)
    fitted = fitted_projections(student, teacher, taps, {"a": "0"}, image=torch.zeros(1, 1, 8, 8), side=side)
    torch.manual_seed(7)
    direct = Projections(channels={"a": [2, 5]}, side=side)
    assert fitted.side == side
    for (name, found), (wanted_name, wanted) in zip(fitted.named_parameters(), direct.named_parameters(), strict=True):
        assert name == wanted_name
        assert torch.equal(found, wanted)


def test_loss_is_tried_with_the_outputs():
    student, teacher = small(1, 3), small(1, 5)
    terms = {"bce": nn.BCEWithLogitsLoss(), "kl": LogitKL(), "f": FeatureLoss()}
    fits = DistillationLoss(terms, dict.fromkeys(terms, 1.0), Projections(dict.fromkeys(TAPS, (3, 5))))
    image, label = torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    rehearse(student, teacher, TAPS, TAPS, image=image, loss=fits, label=label)
    with pytest.raises(ValueError, match="loss term 'bce' needs label"):
        rehearse(student, teacher, TAPS, TAPS, image=image, loss=fits)
    unprojected = DistillationLoss(terms, dict.fromkeys(terms, 1.0))
    with pytest.raises(ValueError, match="student has 3 channels, teacher 5; give it a projection"):
        rehearse(student, teacher, TAPS, TAPS, image=image, loss=unprojected, label=label)


def test_overwritten_layer_is_found_before_training():
    student = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(inplace=True))
    with pytest.raises(ValueError, match=r"tap\(s\) a: the output of 0 was overwritten"):
        rehearse(student, None, {"a": "0"}, image=torch.zeros(1, 1, 4, 4))


def test_without_teacher():
    found = rehearse(small(1, 3), None, TAPS, image=torch.zeros(1, 1, 4, 4))
    assert found.student_shapes == dict.fromkeys(TAPS, (1, 3, 4, 4))
    assert set(found.shapes) == {"student", "student_features"}


def test_several_teachers():
    teachers = {"a": small(1, 4), "b": small(1, 5, stride=2)}
    loss = DistillationLoss({"kl": WithTeacher(LogitKL(), "a")}, {"kl": 1.0})
    found = rehearse(small(1, 3), teachers, {"x": "0"}, {"x": "0"}, image=torch.zeros(1, 1, 8, 8), loss=loss)
    assert found.teacher_shapes("a") == {"x": (1, 4, 8, 8)}
    assert found.teacher_shapes("b") == {"x": (1, 5, 4, 4)}


def test_a_student_that_is_tapped_already():
    student = small(1, 3)
    distiller = Distiller(student, student_taps=TAPS)
    distiller(torch.zeros(2, 1, 8, 8))
    assert rehearse(student, None, TAPS, image=torch.zeros(2, 1, 8, 8)).student_shapes["early"] == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (nn.Identity(), False),
        (nn.Sequential(nn.Sigmoid(), nn.Upsample(scale_factor=2)), True),
        (nn.Sequential(nn.Softmax(1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), True),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), False),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU(), nn.Hardtanh(0.1, 0.9)), False),  # too few
    ],
)
def test_what_may_be_probabilities(after, expected):
    torch.manual_seed(0)
    network = nn.Sequential(small(3, 8), nn.Conv2d(1, 4, 1), after).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert may_be_probabilities(network, torch.zeros(1, 3, 16, 16)) is expected
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
