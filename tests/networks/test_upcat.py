"""The decoder block that pads only where needed, against MONAI's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet, FlexibleUNet
from monai.networks.nets.basic_unet import UpCat
from torch import nn

from monai_kd.config import build_network
from monai_kd.networks import HybridUNet
from monai_kd.networks.upcat import UpCatWhereNeeded, pad_where_needed

WIDTHS = (4, 4, 8, 8, 8, 4)


def _both(dims: int = 2, **arguments: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    monai = BasicUNet(dims, 1, 2, WIDTHS, **arguments)
    return monai, pad_where_needed(copy.deepcopy(monai))


def _image(*size: int) -> torch.Tensor:
    return torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("upsample", ["deconv", "nontrainable"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (32, 38), (32, 32, 32), (17, 32, 21)], ids=str)
def test_output_and_gradients_are_those_of_monai(size: tuple[int, ...], upsample: str) -> None:
    monai, ours = _both(len(size), upsample=upsample)
    found = []
    for network in (monai, ours):
        image = _image(*size).requires_grad_()
        logits = network(image)
        logits.square().sum().backward()
        found.append([logits, image.grad, *(parameter.grad for parameter in network.parameters())])
    assert found[0][0].shape[2:] == size
    for theirs, own in zip(*found, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "padded"), [((32, 32), 0), ((16, 48), 0), ((32, 38), 2), ((33, 33), 1)], ids=str)
def test_only_what_is_smaller_is_padded(size: tuple[int, int], padded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # 38 is halved to 19, 9, 4 and 2: 8 and 18 are one short of 9 and 19. MONAI pads all four levels.
    calls = []
    pad = nn.functional.pad
    monkeypatch.setattr(nn.functional, "pad", lambda x, *more: calls.append(more[0]) or pad(x, *more))
    _both()[1](_image(*size))
    assert len(calls) == padded
    assert all(sum(each) > 0 for each in calls)


def test_flexible_unet_has_it() -> None:
    blocks = [
        block for block in pad_where_needed(FlexibleUNet(1, 2, "efficientnet-b0")).modules() if "UpCat" in _name(block)
    ]
    assert blocks
    assert {_name(block) for block in blocks} == {"UpCatWhereNeeded"}


def _name(module: nn.Module) -> str:
    return type(module).__name__


def test_networks_of_a_config_and_the_teacher_have_it() -> None:
    built = build_network({"_target_": "BasicUNet", "spatial_dims": 2, "features": list(WIDTHS)})
    teacher = HybridUNet(features=WIDTHS, vit_name="vit_tiny_patch16_224", vit_image_size=32)
    for network in (built, teacher):
        blocks = [module for module in network.modules() if isinstance(module, UpCat)]
        assert len(blocks) == 4
        assert {type(block) for block in blocks} == {UpCatWhereNeeded}


def test_names_of_the_weights_stay() -> None:
    monai, ours = _both()
    assert list(monai.state_dict()) == list(ours.state_dict())


def test_torchscript_and_one_graph() -> None:
    _, ours = _both(act=("relu", {"inplace": True}), norm="batch")
    ours.eval()
    for size in ((32, 32), (32, 38)):
        torch.testing.assert_close(torch.jit.script(ours)(_image(*size)), ours(_image(*size)))
    assert torch._dynamo.explain(ours)(_image(32, 32)).graph_break_count == 0
