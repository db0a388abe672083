"""Weights that are converted once give what autocast gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from monai_kd.distillation import Distiller
from monai_kd.distillation.half_weights import HalfWeights


class Net(nn.Module):
    """Layers that autocast converts, that it does not, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, stride=2)
        )
        self.normed = weight_norm(nn.Conv2d(4, 4, 1))
        self.one, self.norm, self.two = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.normed(self.body(x)).flatten(2).mT
        tokens = self.two(self.norm(self.one(tokens)))
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_same_bits_as_autocast(dtype):
    net, image = Net().eval().requires_grad_(False), torch.randn(2, 3, 6, 6)
    half = HalfWeights(net)
    with torch.no_grad():
        assert torch.equal(half(image), net(image))
        with torch.autocast("cpu", dtype):
            for _ in range(2):
                assert torch.equal(half(image), net(image))
    # conv, transposed conv, and what belongs to one Linear alone: two biases
    assert set(half._weights) == {
        "body.0.weight",
        "body.0.bias",
        "body.3.weight",
        "body.3.bias",
        "one.bias",
        "two.bias",
    }
    assert all(parameter.dtype is torch.float32 for parameter in net.parameters())


def test_weights_that_were_changed_or_replaced_are_converted_again():
    net, image = nn.Conv2d(1, 2, 1).requires_grad_(False), torch.randn(1, 1, 3, 3)
    half = HalfWeights(net)
    with torch.no_grad(), torch.autocast("cpu"):
        half(image)
        made = half._weights["weight"]
        half(image)
        assert half._weights["weight"] is made
        net.load_state_dict(nn.Conv2d(1, 2, 1).state_dict())
        assert torch.equal(half(image), net(image))
        net.weight = nn.Parameter(torch.ones_like(net.weight), requires_grad=False)
        assert torch.equal(half(image), net(image))


def test_a_distiller_gives_the_same_logits_and_features():
    teacher, image = Net(), torch.randn(2, 3, 6, 6)
    distiller = Distiller(nn.Conv2d(3, 1, 1), teacher, {}, {"f": "body.3"})
    with torch.no_grad(), torch.autocast("cpu"):
        outputs, expected = distiller.teach(image), teacher(image)
        assert torch.equal(outputs["teacher"], expected)
        assert torch.equal(outputs["teacher_features"]["f"], teacher.body(image))
