"""Weights under the names of other packages: each network of the other package says what ours must give."""

from __future__ import annotations

import re
from collections import OrderedDict

import pytest
import timm
import torch
from monai.networks.nets import EfficientNetBN
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from monai_kd.networks import create_backbone
from monai_kd.networks.efficientnet_layout import is_efficientnet_pytorch, to_timm_layout


def randomised(network: nn.Module) -> nn.Module:
    """Statistics and biases that are not 0 and 1, or swapped norms would not show."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
                module.running_var.mul_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return network.eval()


# timm's layers in the order in which data flows through a block, and what the other package calls them.
INVERTED = ["_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_se_reduce", "_se_expand", "_project_conv", "_bn2"]
ENDS = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}


def foreign(network: nn.Module, squeeze: bool) -> dict[str, torch.Tensor]:
    """The state of timm's EfficientNet under the other package's names, by the order of modules and not by a table."""
    state = {}

    def add(name: str, module: nn.Module) -> None:
        state.update({f"{name}.{key}": value.clone() for key, value in module.state_dict().items()})

    for ours, theirs in ENDS.items():
        add(theirs, network.get_submodule(ours))
    blocks = [block for stage in network.blocks for block in stage]
    for number, block in enumerate(blocks):
        names = [name for name in INVERTED if squeeze or not name.startswith("_se")]
        convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
        norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
        if len(norms) == 2:
            names = names[2:]
        for name, module in zip([each for each in names if "bn" not in each], convolutions, strict=True):
            add(f"_blocks.{number}.{name}", module)
        for name, module in zip([each for each in names if "bn" in each], norms, strict=True):
            add(f"_blocks.{number}.{name}", module)
    return state


@pytest.mark.parametrize(("name", "squeeze"), [("efficientnet_lite0", False), ("efficientnet_b0", True)])
def test_round_trip(name, squeeze, tmp_path):
    source = randomised(timm.create_model(name, num_classes=4))
    state = foreign(source, squeeze)
    assert len(state) == len(source.state_dict())
    assert len({key.split(".")[1] for key in state if key.startswith("_blocks")}) == 16
    assert to_timm_layout(state).keys() == source.state_dict().keys()
    torch.save(state, tmp_path / "weights.pth")
    found = create_backbone(name, tmp_path / "weights.pth", num_classes=4).eval()
    image = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        assert source(image).std() > 1e-3
        torch.testing.assert_close(found(image), source(image), rtol=0, atol=0)


def test_equals_the_network_of_monai(tmp_path):
    # MONAI's EfficientNet has the package's layers and its padding; only its blocks are grouped: _blocks.<stage>.<n>.
    source = randomised(EfficientNetBN("efficientnet-b0", pretrained=False, num_classes=5))
    state = {re.sub(r"^_blocks\.\d+\.", "_blocks.", key): value for key, value in source.state_dict().items()}
    assert is_efficientnet_pytorch(state)
    torch.save(state, tmp_path / "weights.pth")
    found = create_backbone("tf_efficientnet_b0", tmp_path / "weights.pth", num_classes=5).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(found(image), source(image), rtol=1e-5, atol=1e-5)


def few_keys(**more: torch.Tensor) -> dict[str, torch.Tensor]:
    keys = ("_conv_stem.weight", "_fc.weight", "_blocks.0._project_conv.weight")
    return {**{key: torch.zeros(8, 8, 1, 1) for key in keys}, **more}


@pytest.mark.parametrize(
    "key", ["_swish.weight", "_blocks.0._swish.weight", "_blocks.0._bn0.weight", "head.weight", "_blocks.0.weight"]
)
def test_unknown_keys_are_refused(key, tmp_path):
    # _bn0 belongs to blocks that expand; this one does not.
    with pytest.raises(ValueError, match=re.escape(f"'{key}' is no key of EfficientNet-PyTorch")):
        to_timm_layout(few_keys(**{key: torch.zeros(8)}))
    torch.save(few_keys(**{key: torch.zeros(8)}), tmp_path / "weights.pth")
    with pytest.raises(RuntimeError, match=rf"do not fit 'efficientnet_b0': .*{re.escape(key)}"):
        create_backbone("efficientnet_b0", tmp_path / "weights.pth", num_classes=3)


def test_other_layouts_are_left_alone():
    assert not is_efficientnet_pytorch(timm.create_model("test_efficientnet").state_dict())


@pytest.mark.parametrize("num_classes", [5, 3])
def test_vgg_of_torchvision(num_classes, tmp_path, caplog):
    # torchvision's VGG, but for the width of its first linear layer, which alone is 0.4 GB.
    torch.manual_seed(0)
    layers = [nn.Linear(512 * 49, 64), nn.ReLU(), nn.Identity(), nn.Linear(64, 4096), nn.ReLU(), nn.Identity()]
    parts = {"features": make_layers(cfgs["A"]), "avgpool": nn.AdaptiveAvgPool2d(7), "flat": nn.Flatten()}
    source = nn.Sequential(OrderedDict(**parts, classifier=nn.Sequential(*layers, nn.Linear(4096, 5)))).eval()
    torch.save(source.state_dict(), tmp_path / "vgg.pth")
    found = create_backbone("vgg11", tmp_path / "vgg.pth", num_classes=num_classes, mlp_ratio=1 / 64).eval()
    image = 10 * torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected, answer = source[:3](image), found(image)
        hidden = source.classifier[:6](expected)
        torch.testing.assert_close(found.pre_logits(found.forward_features(image)).flatten(1), hidden)
        if num_classes == 5:
            torch.testing.assert_close(answer, source(image))
    assert ("has a classifier of 5 classes: the classifier of 3 classes" in caplog.text) == (num_classes == 3)
