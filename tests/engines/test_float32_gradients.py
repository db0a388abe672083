"""Gradients of depthwise convolutions under autocast, against those of float32."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from monai_kd.distillation import Distiller
from monai_kd.engines import DistillationTrainer
from monai_kd.engines.float32_gradients import Float32Gradients
from monai_kd.losses import DistillationLoss

SHAPES = [
    {"kernel_size": 5, "stride": 2, "padding": 0},
    {"kernel_size": 3, "stride": 1, "padding": 1, "bias": False},
    {"kernel_size": (3, 5), "stride": (1, 2), "padding": (1, 2), "dilation": (2, 1)},
]


def gradients(layer: nn.Module, image: torch.Tensor, mode: bool) -> tuple[torch.Tensor, ...]:
    """The output, and the gradients of the image and the parameters for weights of the output that are no constant."""
    image = image.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        if mode:
            with Float32Gradients():
                out = layer(image)
        else:
            out = layer(image)
    (out.float() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return (out, image.grad, *(each.grad for each in layer.parameters()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("multiplier", [1, 2])
def test_output_has_the_same_bits_and_gradients_are_closer_to_float32(shape: dict, multiplier: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16 * multiplier, groups=16, **shape)
    image = torch.randn(2, 16, 21, 21).bfloat16().float()
    layer.weight.data = layer.weight.data.bfloat16().float()
    quick, slow = gradients(layer, image, True), gradients(layer, image, False)
    assert torch.equal(quick[0], slow[0])
    assert quick[0].dtype is torch.bfloat16
    # float32 with the same gradient of the output, which autocast rounds to bfloat16.
    exact = image.clone().requires_grad_()
    layer.zero_grad()
    out = layer(exact)
    out.backward(torch.linspace(-1, 1, out.numel()).view_as(out).bfloat16().float())
    expected = (exact.grad, *(each.grad for each in layer.parameters()))
    for ours, theirs, true in zip(quick[1:], slow[1:], expected, strict=True):
        assert ours.dtype is torch.float32
        assert (ours - true).abs().max() <= 0.004 * true.abs().max()  # bfloat16 has 8 bits
        assert (ours - true).abs().max() <= (theirs - true).abs().max() + 1e-5 * true.abs().max()


def names(graph: object) -> set[str]:
    seen, left = set(), [graph]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [after for after, _ in node.next_functions]
    return {type(node).__name__ for node in seen}


QUICK = "_ConvolutionBackward"


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 4, 4), (1, 3, 3), (4, 1, 2), (4, 4, 4), (2, 1), (1, 1), (3, 8)])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_kernels_that_are_larger_than_the_image(size: tuple[int, ...], kernel: int, stride: int) -> None:
    """oneDNN leaves gradients of the weights unwritten there, see the module; memory is filled with NaN before."""
    torch.manual_seed(0)
    layer = (nn.Conv2d if len(size) == 2 else nn.Conv3d)(16, 16, kernel, stride, kernel // 2)
    image = torch.randn(2, 16, *size)
    exact = layer(image)
    exact.backward(torch.linspace(-1, 1, exact.numel()).view_as(exact))
    expected = layer.weight.grad.clone()
    for _ in range(3):
        junk = [torch.full((2**power,), torch.nan) for power in range(4, 18, 2)]
        del junk
        _, _, found, _ = gradients(layer, image, True)
        assert (found - expected).abs().max() <= 0.03 * expected.abs().max()


def test_only_what_is_meant_is_changed_under_autocast() -> None:
    image, weight = torch.ones(1, 4, 6, 6), torch.ones(4, 1, 3, 3, requires_grad=True)
    with Float32Gradients():
        with torch.autocast("cpu", torch.bfloat16):
            assert QUICK in names(functional.conv2d(image, weight, groups=4).grad_fn)
            assert QUICK in names(torch.conv2d(input=image, weight=weight, padding=[1, 1], groups=4).grad_fn)
            whole = torch.ones(4, 4, 3, 3, requires_grad=True)
            assert QUICK not in names(functional.conv2d(image, whole).grad_fn)
            assert QUICK in names(functional.conv2d(image, whole, padding=3, dilation=3).grad_fn)
            assert QUICK in names(functional.conv2d(image[..., :2], whole, padding=1).grad_fn)
            volume, cube = torch.ones(1, 4, 6, 6, 6), torch.ones(4, 4, 3, 3, 3, requires_grad=True)
            assert QUICK not in names(functional.conv3d(volume, cube).grad_fn)
            assert QUICK in names(functional.conv3d(volume[:, :, :2], cube, padding=1).grad_fn)
            grouped = torch.ones(4, 2, 3, 3, requires_grad=True)
            assert QUICK not in names(functional.conv2d(image, grouped, groups=2).grad_fn)
            assert QUICK not in names(functional.conv2d(image, weight, padding="same", groups=4).grad_fn)
            with torch.no_grad():
                assert functional.conv2d(image, weight, groups=4).grad_fn is None
            assert functional.conv2d(image, weight.detach(), groups=4).grad_fn is None
        assert QUICK not in names(functional.conv2d(image, weight, groups=4).grad_fn)


def test_a_checkpointed_part_is_computed_again() -> None:
    """Without the mode, in the backward pass, which must save what the first pass saved."""
    torch.manual_seed(0)
    depthwise, image = nn.Conv2d(4, 4, 3, padding=1, groups=4), torch.randn(2, 4, 8, 8)
    gradients = []
    for checkpointed in (False, True):
        depthwise.zero_grad()
        with torch.autocast("cpu"), Float32Gradients():
            given = image.clone().requires_grad_()
            found = checkpoint(depthwise, given, use_reentrant=False) if checkpointed else depthwise(given)
        found.float().square().sum().backward()
        assert depthwise.weight.grad is not None
        assert depthwise.weight.grad.dtype is torch.float32
        gradients.append((depthwise.weight.grad.clone(), given.grad))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_second_use_of_a_weight_adds_its_gradient() -> None:
    weight = torch.full((3, 1, 1, 1), 2.0, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), Float32Gradients():
        image = functional.conv2d(torch.ones(1, 3, 2, 2), weight, groups=3)
        functional.conv2d(image, weight, groups=3).sum().backward()
    # d/dw of the sum of w², over four pixels.
    assert torch.equal(weight.grad, torch.full_like(weight, 16.0))


class Separable(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 1, 1))


@pytest.mark.parametrize(("amp", "compiled"), [(True, False), (False, False), (True, True)])
def test_trainer_uses_it_with_amp_and_without_a_compiler(amp: bool, compiled: bool) -> None:
    seen: list[set[str]] = []

    class Watched(nn.Module):
        def forward(self, pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            seen.append(names(pred.grad_fn))
            return nn.functional.binary_cross_entropy_with_logits(pred, target)

    student = Separable()
    distiller = Distiller(student)
    if compiled:
        distiller.wrap_student(lambda net: torch.compile(net, backend="eager"))
    batch = {"image": torch.randn(2, 1, 8, 8), "label": torch.ones(2, 1, 8, 8)}
    before = student[1].weight.detach().clone()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    loss = DistillationLoss({"bce": Watched()}, {"bce": 1.0})
    DistillationTrainer("cpu", 1, [batch], distiller, optimizer, loss, amp=amp).run()
    assert not torch.equal(student[1].weight, before)
    assert len(seen) == 1
    assert (QUICK in seen[0]) == (amp and not compiled)
