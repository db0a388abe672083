"""The teacher network, and the student network it is built around."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet

from monai_kd.distillation import Distiller, FeatureTaps
from monai_kd.networks import HybridUNet

FEATURES = (4, 4, 8, 8, 16, 4)


def teacher(**kwargs) -> HybridUNet:
    torch.manual_seed(0)
    return HybridUNet(features=FEATURES, vit_name="vit_tiny_patch16_224", vit_image_size=32, **kwargs)


def student() -> BasicUNet:
    torch.manual_seed(1)
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=FEATURES, norm="batch")


def image(height: int = 32, width: int = 32, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("size", [(32, 32), (48, 64), (40, 56), (37, 51), (17, 16)])  # (H, W); some odd, some small
@pytest.mark.parametrize("make", [teacher, student])
def test_output_has_the_size_of_the_image(make, size):
    assert make().eval()(image(*size)).shape == (2, 1, *size)


def test_out_channels():
    assert teacher(out_channels=4).eval()(image()).shape == (2, 4, 32, 32)


def test_is_the_plain_unet_when_the_projection_is_zero():
    # BasicUNet.forward is the independent implementation of all but the added vector.
    net = teacher().eval()
    torch.nn.init.zeros_(net.projection.weight)
    torch.nn.init.zeros_(net.projection.bias)
    assert torch.equal(net(image(40, 56)), net.unet(image(40, 56)))


def test_transformer_is_added_at_the_bridge():
    # Constant vector instead of the transformer: the bridge, as upcat_4 receives it, shifts by exactly that.
    net = teacher().eval()
    torch.nn.init.zeros_(net.projection.weight)
    shift = torch.arange(16.0)
    net.projection.bias.data = shift
    received = []
    net.unet.upcat_4.register_forward_pre_hook(lambda _module, inputs: received.append(inputs[0]))
    net(image())
    net.unet(image())
    torch.testing.assert_close(received[0], received[1] + shift.reshape(1, 16, 1, 1))


def test_transformer_has_influence():
    net = teacher().eval()
    with torch.no_grad():
        net.projection.weight.mul_(100)  # as after training: at random, the added vector is tiny
        before = net(image())
        net.vit.patch_embed.proj.weight.mul_(-3)
        assert (net(image()) - before).abs().max() > 1e-3


def test_transformer_sees_the_whole_image():
    # A corner of the image changes the vector that is added everywhere.
    net = teacher().eval()
    taps = FeatureTaps(net, {"vit": "projection"})
    net(image())
    before = taps.take()["vit"]
    changed = image()
    changed[..., :8, :8] += 3
    net(changed)
    assert (taps.take()["vit"] - before).abs().max() > 1e-4


def test_gradient_reaches_every_weight():
    net = teacher()
    net(image()).square().mean().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    assert net.vit.patch_embed.proj.weight.grad.abs().sum() > 0
    assert net.projection.weight.grad.abs().sum() > 0


def test_student_and_teacher_taps_share_their_names():
    names = [f"upcat_{level}" for level in (4, 3, 2, 1)]
    d = Distiller(
        student(),
        teacher(),
        student_taps={name: name for name in names},
        teacher_taps={name: f"unet.{name}" for name in names},
    )
    outputs = d(image(48, 64))
    shapes = {"upcat_4": (2, 8, 6, 8), "upcat_3": (2, 8, 12, 16), "upcat_2": (2, 4, 24, 32), "upcat_1": (2, 4, 48, 64)}
    for side in ("student_features", "teacher_features"):
        found = {name: tuple(f.shape) for name, f in outputs[side].items()}
        assert list(found) == names
        assert {name: shape[2:] for name, shape in found.items()} == {name: shape[2:] for name, shape in shapes.items()}


def test_full_sizes():
    # Counted without allocating: half a gigabyte would not make the number truer.
    with torch.device("meta"):
        small = BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=(32, 64, 128, 256, 512, 32))
        large = HybridUNet()
    count = [sum(p.numel() for p in net.parameters()) / 1e6 for net in (small, large)]
    assert count == pytest.approx([7.78, 117.70], abs=0.01)
    assert large.vit.num_features == 768
    assert large.projection.out_features == 1024


@pytest.mark.parametrize("make", [teacher, student])
def test_torchscript_gives_the_same(make):
    net = make().eval()
    scripted = torch.jit.script(net)
    for size in ((32, 32), (40, 56)):
        torch.testing.assert_close(scripted(image(*size)), net(image(*size)), rtol=0, atol=1e-6)


def test_takes_three_channels():
    with pytest.raises(ValueError, match="takes three channels, got in_channels=1"):
        HybridUNet(in_channels=1)


def test_unknown_transformer():
    with pytest.raises(ValueError, match="neither timm nor torchvision has a model 'vit_tinny'"):
        HybridUNet(features=FEATURES, vit_name="vit_tinny")
