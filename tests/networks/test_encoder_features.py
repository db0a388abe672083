import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from monai_kd.networks import HybridUNet, TimmUNet, create_backbone
from monai_kd.networks.encoder_features import encoder_layers, pooled_features

NETWORKS = {
    "U-Net": (lambda: BasicUNet(2, 3, 1, (4, 4, 8, 8, 8, 4)), ["down_3", "down_4"]),
    "inverted residuals": (
        lambda: TimmUNet(encoder="mobilenetv2_050", features=(8, 8, 8, 8, 8)),
        ["encoder.blocks.2", "encoder.blocks.4"],
    ),
    # Its blocks pool to 1 × 1 in between, to weigh channels.
    "squeeze and excitation": (lambda: create_backbone("test_efficientnet", False, 3), None),
    "residual": (lambda: create_backbone("resnet18", False, 3), ["layer2", "layer3"]),
    "hybrid": (lambda: HybridUNet(3, 1, (4, 4, 8, 8, 8, 4), vit_name="test_vit", vit_image_size=32), None),
}


@pytest.mark.parametrize(("build", "expected"), NETWORKS.values(), ids=list(NETWORKS))
def test_layers(build, expected):
    network = build().eval()
    image = torch.zeros(1, 3, 64, 96)
    layers = encoder_layers(network, image)
    if expected is not None:
        assert layers == expected
    modules, shapes = dict(network.named_modules()), []
    for name in layers:
        modules[name].register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape[-2:])))
    network(image)
    assert shapes == [(8, 12), (4, 6)]


def test_sizes_that_strides_do_not_divide():
    network = BasicUNet(2, 3, 1, (4, 4, 8, 8, 8, 4)).eval()
    assert encoder_layers(network, torch.zeros(1, 3, 72, 100)) == ["down_3", "down_4"]


def test_features_are_means_and_what_follows_is_not_run():
    network = BasicUNet(2, 3, 1, (4, 4, 8, 8, 8, 4)).eval()
    images = torch.rand(2, 3, 32, 32)
    expected = []
    handles = [
        getattr(network, name).register_forward_hook(lambda _m, _i, output: expected.append(output.mean((2, 3))))
        for name in ("down_3", "down_4")
    ]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    network.upcat_4.register_forward_hook(lambda *_: pytest.fail("the decoder has run"))
    found = pooled_features(network, ["down_3", "down_4"], images)
    torch.testing.assert_close(found, torch.cat(expected, 1))
    assert not found.requires_grad
    assert not network.down_3._forward_hooks


def test_a_network_without_such_outputs():
    with pytest.raises(ValueError, match="Sequential has no output of 1/16 of the height"):
        encoder_layers(nn.Sequential(nn.MaxPool2d(8), nn.Upsample(scale_factor=8)), torch.zeros(1, 3, 32, 32))
