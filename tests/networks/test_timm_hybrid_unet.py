"""The U-Net of a pretrained CNN and a pretrained transformer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_kd.config import build_network
from monai_kd.networks import TimmHybridUNet, TimmUNet, create_backbone

SMALL = {
    "encoder": "mobilenetv3_small_050",
    "features": (16, 12, 8, 8, 4),
    "vit_name": "vit_tiny_patch16_224",
    "vit_image_size": 32,
}


def teacher(**kwargs) -> TimmHybridUNet:
    torch.manual_seed(0)
    return TimmHybridUNet(**{**SMALL, **kwargs}).eval()


def image(height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_output_has_the_size_of_the_image(size):
    assert teacher(out_channels=4)(image(*size)).shape == (2, 4, *size)


def test_is_the_plain_unet_when_the_projections_are_zero():
    # TimmUNet.forward is the implementation of all but what is added; the encoder has ImageNet's normalisation.
    net = teacher()
    for parameter in net.projections.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(net(image()), net.unet(image()), rtol=1e-5, atol=1e-6)


def test_tokens_keep_their_places():
    # A token per quarter of the image: one that is changed changes its quarter of the level alone.
    net = teacher(vit_strides=(16,))
    seen = []
    net.unet.decode = lambda skips: seen.append(skips[16].clone()) or skips[16]
    tokens = torch.zeros(2, 5, 192)
    net.vit.forward_features = lambda _image: tokens
    net(image())
    tokens[:, 1 + 1] = 1.0  # after the class token: first row, second column
    net(image())
    changed = (seen[1] - seen[0]).abs().amax(1)[0] > 1e-4
    expected = F.interpolate(torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]]), size=[4, 4], mode="bilinear") > 0
    assert torch.equal(changed, expected[0, 0])


def test_both_parts_get_the_normalisation_of_their_weights():
    net = teacher(encoder="tf_efficientnet_lite0", mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
    grey = torch.rand(2, 3, 64, 64)
    seen = {}
    net.unet.encoder.conv_stem.register_forward_pre_hook(lambda _m, inputs: seen.update(encoder=inputs[0]))
    net.vit.patch_embed.register_forward_pre_hook(lambda _m, inputs: seen.update(vit=inputs[0]))
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.2, 0.3, 0.4), (0.5, 0.6, 0.7)))
    net((grey - mean) / std)
    torch.testing.assert_close(seen["encoder"], (grey - 0.5) / 0.5)
    # That of timm's vit_tiny_patch16_224 is 0.5, too.
    half = F.interpolate((grey - 0.5) / 0.5, size=[32, 32], mode="bilinear", align_corners=False)
    torch.testing.assert_close(seen["vit"], half)


def test_gradient_reaches_every_weight():
    net = teacher().train()
    net(image()).square().mean().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    # The class token is read by the patches in all blocks but the last, of which only the patches are used.
    assert silent == []
    assert net.vit.patch_embed.proj.weight.grad.abs().sum() > 0


def test_weights_of_files(tmp_path):
    parts = {"encoder": create_backbone(SMALL["encoder"]), "vit": create_backbone(SMALL["vit_name"], image_size=32)}
    for name, part in parts.items():
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter)
        torch.save(part.state_dict(), tmp_path / f"{name}.pth")
    net = teacher(pretrained={name: str(tmp_path / f"{name}.pth") for name in parts})
    for part, found in (("encoder", net.unet.encoder), ("vit", net.vit)):
        given = parts[part].state_dict()
        assert all(torch.equal(value, given[key]) for key, value in found.state_dict().items())


def test_taps_are_those_of_the_student():
    levels = [f"upcat_{level}" for level in (4, 3, 2, 1)]
    student = TimmUNet(encoder=SMALL["encoder"], features=SMALL["features"])
    assert {type(student.get_submodule(name)) for name in levels} == {
        type(teacher().get_submodule(f"unet.{name}")) for name in levels
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"in_channels": 1}, "takes three channels, got in_channels=1"),
        ({"vit_name": "resnet10t"}, "'resnet10t' has no patch tokens: give a Vision Transformer"),
        ({"vit_strides": (64, 16)}, r"has outputs of the strides 2, 4, 8, 16, 32, not 64"),
        ({"pretrained": {"encoder": False}}, "pretrained must be true, false, or have values for encoder and vit"),
        ({"vit_name": "vit_tinny"}, "neither timm nor torchvision has a model 'vit_tinny'"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        teacher(**given)


def test_full_size_is_built_from_settings_without_the_pretrained_weights():
    definition = {"_target_": "monai_kd.networks.TimmHybridUNet", "pretrained": True}
    net = build_network(definition, trusted=False)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(28.0, abs=0.1)
