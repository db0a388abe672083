"""The classification teacher against its own backbones, run one by one."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from monai_kd.networks import LateFusionClassifier, classifier_of

RESNET = {"name": "test_resnet", "image_size": 32}
VIT = {"name": "test_vit", "image_size": 48}
VGG = {"name": "vgg11", "image_size": 32, "mlp_ratio": 1 / 32}


def fused(*backbones, num_classes: int = 3, **kwargs) -> LateFusionClassifier:
    torch.manual_seed(0)
    return LateFusionClassifier(backbones, num_classes=num_classes, **kwargs)


def image(height: int = 32, width: int = 32, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("number", [0, 1])
@torch.no_grad()
def test_identity_on_one_backbone_gives_its_logits(number):
    net = fused(RESNET, {**VIT, "image_size": 32}).eval()
    net.fusion.weight.zero_()[:, 3 * number : 3 * number + 3] = torch.eye(3)
    net.fusion.bias.zero_()
    expected = net.backbones[number](image())
    assert expected.std() > 1e-4
    torch.testing.assert_close(net(image()), expected)


@torch.no_grad()
def test_closed_form_of_the_fusion():
    net = fused(RESNET, VIT).eval()
    a, b = (
        backbone(F.interpolate(image(40, 56), (side, side), mode="bilinear"))
        for backbone, side in zip(net.backbones, (32, 48), strict=True)
    )
    weight = torch.arange(18.0).reshape(3, 6) / 10
    net.fusion.weight.copy_(weight)
    net.fusion.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
    expected = a @ weight[:, :3].T + b @ weight[:, 3:].T + torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(net(image(40, 56)), expected, rtol=1e-4, atol=1e-5)


def test_each_backbone_sees_its_own_size():
    net, seen = fused(RESNET, VIT, {**RESNET, "image_size": 64}).eval(), []
    for backbone in net.backbones:
        backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    given = image(64, 64)
    net(given)
    assert [tuple(each.shape[2:]) for each in seen] == [(32, 32), (48, 48), (64, 64)]
    assert seen[2] is given
    # half the size, by bilinear interpolation without corners: means of 2 × 2
    torch.testing.assert_close(seen[0], F.avg_pool2d(given, 2))


@pytest.mark.parametrize(
    ("name", "size"), [("vit_base_patch16_384", 384), ("test_resnet", 160), ("squeezenet1_1", 224)]
)
def test_without_a_size_it_is_that_of_the_weights(name, size):
    with torch.device("meta"):
        net = LateFusionClassifier([name], num_classes=2)
    assert net.image_sizes == [size]


@pytest.mark.parametrize(
    ("backbones", "kinds"),
    [
        ([VGG, {**VIT, "name": "vit_tiny_patch16_224"}], ["VGG", "VisionTransformer"]),  # hybrid
        ([VGG, VGG], ["VGG", "VGG"]),  # dual, convolutional
        ([VIT, VIT], ["VisionTransformer", "VisionTransformer"]),  # dual, transformers
        ([RESNET], ["ResNet"]),
        ([RESNET, VIT, {"name": "squeezenet1_1", "image_size": 40}], ["ResNet", "VisionTransformer", "SqueezeNet"]),
    ],
)
def test_any_backbones_by_their_names(backbones, kinds):
    net = fused(*backbones, num_classes=4)
    assert [type(backbone).__name__ for backbone in net.backbones] == kinds
    assert net.fusion.weight.shape == (4, 4 * len(kinds))
    output = net(image(36, 36))
    assert output.shape == (2, 4)
    output.square().sum().backward()
    for backbone in net.backbones:
        assert sum(float(p.grad.abs().sum()) for p in backbone.parameters() if p.grad is not None) > 0
    if len(kinds) == 2 and kinds[0] == kinds[1]:
        first, second = (classifier_of(backbone).weight for backbone in net.backbones)
        assert not torch.equal(first, second)


def test_frozen_backbones_keep_all_but_their_classifier(caplog):
    frozen = {**RESNET, "freeze": True, "drop_rate": 0.5}
    net = fused(frozen, RESNET)
    assert caplog.text.count("frozen with RANDOM weights") == 1
    assert "backbones[0], test_resnet, is frozen" in caplog.text
    before = copy.deepcopy(net.state_dict())
    trainable = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert {name for name in trainable if name.startswith("backbones.0.")} == {
        "backbones.0.fc.weight",
        "backbones.0.fc.bias",
    }
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    for step in range(3):
        net.train()
        assert not any(module.training for module in net.backbones[0].modules())
        optimizer.zero_grad()
        F.cross_entropy(net(image(batch=4) + step), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
    after = net.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    kept = {name for name in after if name.startswith("backbones.0.") and not name.startswith("backbones.0.fc.")}
    assert any("running_mean" in name for name in kept)
    assert not moved & kept
    assert {"backbones.0.fc.weight", "backbones.0.fc.bias", "fusion.weight", "fusion.bias"} <= moved
    # the other backbone trains as a whole, statistics too
    own = {name for name in after if name.startswith("backbones.1.")}
    assert own <= moved


@pytest.mark.parametrize(("own", "caution"), [(True, True), (False, False)])
def test_a_backbone_may_differ_from_the_others(own, caution, caplog):
    net = fused({**RESNET, "freeze": own}, freeze=not own)
    assert any(not p.requires_grad for p in net.parameters()) == own
    assert ("RANDOM" in caplog.text) == caution


@pytest.mark.parametrize("none", [False, None])
def test_frozen_without_weights_is_said_however_none_is_written(none, caplog):
    fused({**RESNET, "freeze": True, "pretrained": none})
    assert "frozen with RANDOM weights" in caplog.text


@pytest.mark.parametrize("name", ["test_resnet", "squeezenet1_1"])
def test_weights_from_a_file_for_all(name, tmp_path, caplog):
    torch.manual_seed(1)
    alone = fused({"name": name, "image_size": 32}).backbones[0]
    torch.save(alone.state_dict(), tmp_path / "weights.pth")
    described = {"name": name, "image_size": 32}
    net = fused(described, {**described, "pretrained": False}, pretrained=str(tmp_path / "weights.pth"), freeze=True)
    state, second = net.backbones[0].state_dict(), net.backbones[1].state_dict()
    assert all(torch.equal(state[key], value) for key, value in alone.state_dict().items())
    assert not all(torch.equal(second[key], value) for key, value in alone.state_dict().items())
    assert caplog.text.count("RANDOM") == 1
    assert "backbones[1]" in caplog.text


@pytest.mark.parametrize(
    ("backbones", "num_classes", "message"),
    [
        ([], 3, "at least one name"),
        ("vgg19", 3, "must be a list"),
        ([RESNET], 1, "2 or more, got 1"),
        ([RESNET, 3], 3, r"backbones\[1\] must be a name, or a mapping with a name, got 3"),
        ([{"image_size": 32}], 3, r"backbones\[0\] must be a name, or a mapping with a name"),
        ([RESNET, {"name": None}], 3, r"backbones\[1\] must be a name"),
        ([{**RESNET, "freeze": "false"}], 3, r"backbones\[0\]: freeze must be True or False, got 'false'"),
        ([{**RESNET, "pretrained": "true"}], 3, "the text 'true': on the command line write True or False"),
        (["vgg91"], 3, "'vgg91'; models with a similar name: .*"),
    ],
)
def test_wrong_descriptions(backbones, num_classes, message):
    with pytest.raises(ValueError, match=message):
        LateFusionClassifier(backbones, num_classes=num_classes)


@pytest.mark.parametrize(
    ("name", "tap"), [("vgg11", 19), ("vgg11_bn", 27), ("vgg19", 35), ("vgg19_bn", 51), ("vgg13.tv_in1k", 23)]
)
def test_the_last_convolution_of_a_vgg(name, tap):
    """What goes into the last pooling: the layer before the last one of ``features``."""
    with torch.device("meta"):
        net = LateFusionClassifier([RESNET, {"name": name, "mlp_ratio": 0.03125}], 3)
    assert net.last_convolution(1) == f"backbones.1.features.{tap}"
    assert len(net.backbones[1].features) == tap + 2


@pytest.mark.parametrize("name", [RESNET, "densenet121"])
def test_no_last_convolution_is_guessed_of_others(name):
    with torch.device("meta"), pytest.raises(ValueError, match=r"backbones\[0\] \(.*\) is no VGG.*teacher_taps"):
        LateFusionClassifier([name], 3).last_convolution()


@pytest.mark.parametrize("mode", [True, False])
def test_train_and_eval_return_the_network(mode):
    net = fused(RESNET)
    assert net.train(mode) is net
    assert net.backbones[0].training is mode


def test_torchscript_gives_the_same():
    net = fused(RESNET, VIT).eval()
    scripted = torch.jit.script(net)
    for size in ((32, 32), (40, 56)):
        torch.testing.assert_close(scripted(image(*size)), net(image(*size)), rtol=0, atol=1e-5)


def test_full_sizes():
    with torch.device("meta"):
        net = LateFusionClassifier(["vgg19", "vit_base_patch16_224"], num_classes=3)
        reference = [torchvision.models.vgg19(num_classes=3), torchvision.models.vit_b_16(num_classes=3)]
    expected = sum(p.numel() for each in reference for p in each.parameters()) + 6 * 3 + 3
    assert sum(p.numel() for p in net.parameters()) == expected
    # The MSGFF tap of cls_student: the last convolution, after its activation.
    assert isinstance(net.get_submodule("backbones.0.features.35"), nn.ReLU)
    last = net.get_submodule("backbones.0.features.34")
    assert isinstance(last, nn.Conv2d)
    assert last.out_channels == 512
    assert not any(isinstance(module, nn.Conv2d) for module in net.backbones[0].features[35:])
