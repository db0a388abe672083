"""The U-Net on encoders of timm."""

from __future__ import annotations

import logging

import pytest
import timm
import torch
from monai.networks.nets.basic_unet import UpCat
from torch import nn

from monai_kd.distillation import FeatureTaps
from monai_kd.networks import TimmUNet, create_backbone

NARROW = (16, 12, 8, 8, 4)
SMALL = "mobilenetv3_small_050"


def image(channels: int = 3, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("encoder", "kwargs"),
    [
        (SMALL, {}),  # strides 2 … 32
        ("test_resnet", {}),
        ("convnext_atto", {}),  # 4 … 32, no skip connection at 2
        ("vgg11", {"features": NARROW[:3], "mlp_ratio": 0.01}),  # 1 … 32, of which 1 … 8 are used
        ("swin_tiny_patch4_window7_224", {"image_size": 64, "depths": (1, 1, 1, 1), "embed_dim": 24}),
        ("vit_tiny_patch16_224", {"image_size": 64, "features": NARROW[:4], "depth": 2}),  # 16 alone
    ],
)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_encoders(encoder, kwargs, in_channels):
    torch.manual_seed(0)
    net = TimmUNet(in_channels, 2, encoder, **{"features": NARROW, **kwargs})
    levels = {f"d{level}": f"upcat_{level}" for level in range(1, net.depth + 1)}
    taps = FeatureTaps(net, levels)
    logits = net(image(in_channels))
    assert logits.shape == (2, 2, 64, 64)
    assert [each.shape[-1] for each in taps.take().values()] == [64 // 2**level for level in range(net.depth)]
    logits.sum().backward()
    # DistributedDataParallel fails when a parameter gets no gradient: nothing unused is left of the classifier.
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("encoder", [SMALL, "resnet10t", "convnext_atto"])
def test_skip_connections_are_the_features_of_timm(encoder):
    # timm's own wrapper around another instance with the same weights, cut at the same stages.
    net = TimmUNet(encoder=encoder, features=NARROW).eval()
    features = timm.create_model(encoder, features_only=True).eval()
    renamed = {key.replace("stem.", "stem_", 1).replace("stages.", "stages_", 1): value for key, value in _encoder(net)}
    features.load_state_dict(renamed if encoder == "convnext_atto" else dict(_encoder(net)), strict=True)
    seen: dict[int, torch.Tensor] = {}
    for level in range(1, 6):
        block = getattr(net, f"upcat_{level}")
        block.register_forward_pre_hook(lambda _module, inputs, level=level: seen.update({level: inputs[1]}))
    net(image())
    own = {64 // each.shape[-1]: each for each in features(image())}
    for level, skip in seen.items():
        expected = own.get(2 ** (level - 1))
        assert (skip is None) == (expected is None)
        if skip is not None:
            torch.testing.assert_close(skip, expected)


def _encoder(net: nn.Module):
    return net.encoder.state_dict().items()


@pytest.mark.parametrize("size", [(64, 65), (48, 64), (31, 64)])
def test_size_must_be_divisible(size):
    with pytest.raises(ValueError, match=rf"image of {size[0]} × {size[1]} pixels: both must be divisible by 32"):
        TimmUNet(encoder=SMALL, features=NARROW)(image(3, *size))


def test_any_other_size():
    net = TimmUNet(encoder=SMALL, features=NARROW[:4]).eval()  # by 16
    assert net(image(3, 48, 80)).shape == (2, 1, 48, 80)


@pytest.mark.parametrize(
    ("encoder", "features", "message"),
    [
        ("mobilenetv9", NARROW, "neither timm nor torchvision has a model 'mobilenetv9'"),
        ("shufflenet_v2_x1_0", NARROW, "'shufflenet_v2_x1_0' is a model of torchvision alone"),
        ("vit_tiny_patch16_224", NARROW, "outputs of strides 16, and 5 features need one of 32"),
        (SMALL, (*NARROW, 4), "outputs of strides 2, 4, 8, 16, 32, and 6 features need one of 64"),
    ],
)
def test_encoders_that_do_not_fit(encoder, features, message):
    with pytest.raises(ValueError, match=message):
        TimmUNet(encoder=encoder, features=features)


@pytest.mark.parametrize("in_channels", [3, 1])
def test_weights_from_a_file(in_channels, tmp_path):
    torch.manual_seed(1)
    trained = create_backbone(SMALL, num_classes=5)
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    net = TimmUNet(in_channels, encoder=SMALL, features=NARROW, pretrained=tmp_path / "w.pth")
    found, source = net.encoder.state_dict(), trained.state_dict()
    for key, value in found.items():
        if in_channels == 1 and key == "conv_stem.weight":
            # timm: a grey image is one with three equal channels.
            torch.testing.assert_close(value, source[key].sum(dim=1, keepdim=True))
        else:
            assert torch.equal(value, source[key]), key


def test_incomplete_file_is_refused(tmp_path):
    state = create_backbone(SMALL).state_dict()
    torch.save({key: value for key, value in state.items() if not key.startswith("blocks.2.")}, tmp_path / "w.pth")
    with pytest.raises(RuntimeError, match=rf"w\.pth do not fit '{SMALL}': \d+ keys are missing"):
        TimmUNet(encoder=SMALL, pretrained=tmp_path / "w.pth")


def test_without_a_connection(monkeypatch, caplog):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(RuntimeError, match="To do without a connection, give the path of a local weights"):
        TimmUNet(encoder="test_resnet", pretrained=True)


def test_compiled_as_one_graph():
    """In parts, each would be started by Python; ``fullgraph`` raises where there are several."""
    torch.manual_seed(0)
    net = TimmUNet(3, 1, SMALL, NARROW).eval()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    assert torch.equal(compiled(image()), net(image()))


def test_levels_compute_what_those_of_monai_do():
    torch.manual_seed(0)
    net = TimmUNet(3, 1, SMALL, NARROW).eval()
    skips = net.encode(image())
    below = skips[32]
    for level in range(5, 0, -1):
        block, skip = net.get_submodule(f"upcat_{level}"), skips.get(2 ** (level - 1))
        found = block(below, skip)
        assert torch.equal(found, UpCat.forward(block, below, skip))
        below = found


def test_one_network_for_masks_and_classes():
    torch.manual_seed(0)
    both = TimmUNet(encoder=SMALL, features=NARROW, classes=4)
    masks, classes = both.train()(image())
    assert masks.shape == (2, 1, 64, 64)
    assert classes.shape == (2, 4)
    (masks.sum() + classes.sum()).backward()
    assert all(parameter.grad is not None for parameter in both.parameters())
    # The classes are those of the classifier of timm with the same weights, and the masks those of the U-Net without.
    classifier = create_backbone(SMALL, num_classes=4).eval()
    classifier.load_state_dict(both.encoder.state_dict(), strict=True)
    alone = TimmUNet(encoder=SMALL, features=NARROW).eval()
    alone.load_state_dict({name: value for name, value in both.state_dict().items() if name in alone.state_dict()})
    both.eval()
    torch.testing.assert_close(both(image()), alone(image()))
    batch_norms = [module for module in both.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    both.train()
    for module in batch_norms:
        module.eval()
    torch.testing.assert_close(both(image())[1], classifier(image()))
