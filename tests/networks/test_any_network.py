"""Networks of MONAI and timm as students and teachers: taps, distillation, logits, state, precision."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks import nets
from torch import nn

from monai_kd.distillation import Distiller, FeatureTaps
from monai_kd.engines import LogitsInferer, PlanarInferer, autocast
from monai_kd.losses import DeepSupervision, DistillationLoss, FeatureLoss, LogitKL, Projections
from monai_kd.networks import TimmUNet

BATCH, CLASSES = 2, 2
# Two elements at stride 16 are enough for a normalisation of instances; one is an error in training.
SIZES = {2: (32, 64), 3: (32, 16, 16)}
TWICE = {2: (32, 64), 3: (64, 32, 32)}


@dataclass
class Case:
    """One network, small.

    Attributes:
        build: called with ``spatial_dims``, ``in_channels``, ``out_channels`` and ``kwargs``.
        taps: name to path.
        strides: of the taps, in their order.
        axes: numbers of spatial axes in which it exists.
        heads: how many it has in training.
        needs: a package that MONAI needs for it.
        sizes: of the image, by number of axes.
    """

    build: Callable[..., nn.Module]
    taps: dict[str, str]
    kwargs: dict[str, Any] = field(default_factory=dict)
    strides: Sequence[int] = (8, 4, 2, 1)
    axes: Sequence[int] = (2, 3)
    heads: int = 1
    channels: int = 2
    needs: str | None = None
    sizes: dict[int, tuple[int, ...]] = field(default_factory=lambda: SIZES)

    def network(self, axes: int, seed: int = 0) -> nn.Module:
        if self.needs is not None:
            pytest.importorskip(self.needs)
        torch.manual_seed(seed)
        return self.build(spatial_dims=axes, in_channels=self.channels, out_channels=CLASSES, **self.kwargs)

    def image(self, axes: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        return torch.randn(BATCH, self.channels, *self.sizes[axes], generator=generator)


def unetr(spatial_dims: int, **kwargs: Any) -> nn.Module:
    return nets.UNETR(img_size=SIZES[spatial_dims], spatial_dims=spatial_dims, **kwargs)


def levels(*paths: str) -> dict[str, str]:
    return dict(zip(("d4", "d3", "d2", "d1"), paths, strict=True))


def timm_unet(spatial_dims: int, **kwargs: Any) -> nn.Module:
    assert spatial_dims == 2
    return TimmUNet(**kwargs)


UPCATS = levels("upcat_4", "upcat_3", "upcat_2", "upcat_1")
UNETPP = levels("upcat_3_1", "upcat_2_2", "upcat_1_3", "upcat_0_4")
FOUR = (4, 4, 8, 8)
DYN = {"kernel_size": [3] * 5, "strides": [1, 2, 2, 2, 2], "upsample_kernel_size": [2] * 4, "filters": [4, 4, 8, 8, 8]}
VIT = {"feature_size": 4, "hidden_size": 12, "mlp_dim": 12, "num_heads": 2}
SKIP = "model.1.submodule.1"

CASES = {
    "basic_unet": Case(nets.BasicUNet, UPCATS, {"features": (*FOUR, 8, 4), "norm": "batch"}),
    "unetpp": Case(nets.BasicUNetPlusPlus, UNETPP, {"features": (*FOUR, 8, 4)}),
    "unetpp_deep": Case(nets.BasicUNetPlusPlus, UNETPP, {"features": (*FOUR, 8, 4), "deep_supervision": True}, heads=4),
    "attention_unet": Case(
        nets.AttentionUnet,
        levels(f"{SKIP}.submodule.1.submodule.1.merge", f"{SKIP}.submodule.1.merge", f"{SKIP}.merge", "model.1.merge"),
        {"channels": (*FOUR, 8), "strides": (2, 2, 2, 2)},
    ),
    "res_unet": Case(
        nets.UNet,
        levels(f"{SKIP}.submodule.1.submodule.2", f"{SKIP}.submodule.2", "model.1.submodule.2", "model.1"),
        {"channels": (*FOUR, 8), "strides": (2, 2, 2, 2), "num_res_units": 2, "norm": "batch"},
        strides=(8, 4, 2, 2),
    ),
    "segresnet": Case(
        nets.SegResNet, levels("down_layers.3", "up_layers.0", "up_layers.1", "up_layers.2"), {"init_filters": 8}
    ),
    "segresnet_ds": Case(
        nets.SegResNetDS,
        {"d3": "up_layers.0.blocks", "d2": "up_layers.1.blocks", "d1": "up_layers.2.blocks"},
        {"init_filters": 8, "blocks_down": (1, 1, 1, 1), "dsdepth": 2},
        strides=(4, 2, 1),
        heads=2,
    ),
    "dynunet": Case(nets.DynUNet, levels(*(f"upsamples.{n}" for n in range(4))), DYN),
    "dynunet_deep": Case(
        nets.DynUNet,
        levels(*(f"upsamples.{n}" for n in range(4))),
        {**DYN, "deep_supervision": True, "deep_supr_num": 2},
        heads=3,
    ),
    "vnet": Case(nets.VNet, levels("up_tr256", "up_tr128", "up_tr64", "up_tr32"), axes=(3,), channels=1),
    "flexible_unet": Case(
        nets.FlexibleUNet,
        levels(*(f"decoder.blocks.{n}" for n in (1, 2, 3, 4))),
        {"backbone": "resnet10", "decoder_channels": (8, 8, 8, 4, 4)},
        axes=(2,),
    ),
    "timm": Case(timm_unet, UPCATS, {"encoder": "mobilenetv3_small_050", "features": (8, 8, 8, 4, 4)}, axes=(2,)),
    "unetr": Case(unetr, levels("decoder5", "decoder4", "decoder3", "decoder2"), VIT, needs="einops"),
    "swin_unetr": Case(
        nets.SwinUNETR,
        levels("decoder4", "decoder3", "decoder2", "decoder1"),
        {"feature_size": 12},
        needs="einops",
        sizes=TWICE,
    ),
}
ALL = {f"{name}-{axes}d": (case, axes) for name, case in CASES.items() for axes in case.axes}
SLOW = ("swin_unetr-3d", "vnet-3d")
EACH = [pytest.param(*each, id=name) for name, each in ALL.items() if name not in SLOW]
STUDENTS = [*EACH, pytest.param(*ALL["vnet-3d"], id="vnet-3d")]
TEACHERS = [
    pytest.param(*each, id=name)
    for name, each in ALL.items()
    if name.startswith(("unetr", "swin_unetr", "unetpp_deep", "dynunet_deep"))
]


def loss(networks: dict[str, nn.Module], taps: dict[str, dict[str, str]], image: torch.Tensor, heads: int):
    """Supervision of all heads, logits, and features under projections of the channels that the taps have."""
    channels: dict[str, list[int]] = {}
    for side in ("student", "teacher"):
        listener = FeatureTaps(networks[side], taps[side])
        with torch.no_grad():
            networks[side](image)
        for name, features in listener.take().items():
            channels.setdefault(name, []).append(features.shape[1])
        listener.remove()
    dice = DiceCELoss(softmax=True, to_onehot_y=True)
    terms = {
        "dice": DeepSupervision(dice) if heads > 1 else dice,
        "kl": LogitKL(activation="softmax"),
        "feature": FeatureLoss(),
    }
    return DistillationLoss(terms, dict.fromkeys(terms, 1.0), Projections(channels, "student", image.ndim - 2))


def two_steps(student: nn.Module, teacher: nn.Module, taps: dict[str, dict[str, str]], image: torch.Tensor, heads: int):
    """Distil for two steps, and check what moved."""
    frozen = {name: value.clone() for name, value in teacher.state_dict().items()}
    function = loss({"student": student, "teacher": teacher}, taps, image, heads)
    before = {name: value.detach().clone() for name, value in student.named_parameters()}
    distiller = Distiller(student, teacher, taps["student"], taps["teacher"]).train()
    optimizer = torch.optim.Adam([*distiller.parameters(), *function.parameters()], lr=1e-3)
    label = (image[:, :1] > 0.5).float()
    for _ in range(2):
        optimizer.zero_grad()
        outputs = distiller(image)
        assert len(outputs.get("student_heads", [None])) == heads
        function(outputs, label).total.backward()
        optimizer.step()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, frozen[name]) for name, value in teacher.state_dict().items())
    still = [name for name, value in student.named_parameters() if torch.equal(value, before[name])]
    # MONAI's UNETR never runs its cross attention, nor UNet++ the other heads, unless they are asked for.
    idle = ["norm_cross_attn", *(() if heads > 1 else ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3"))]
    # A normalisation follows, and takes a constant away: these move by rounding alone, on some processors.
    idle += [f"attention.{part}.0.conv.bias" for part in ("W_g", "W_x", "psi")]
    assert [name for name in still if not any(part in name for part in idle)] == []


@pytest.mark.parametrize(("case", "axes"), STUDENTS)
def test_student(case: Case, axes: int):
    teacher = nets.BasicUNet(axes, case.channels, CLASSES, (4, 4, 8, 8, 16, 4))
    names = {name: UPCATS[name] for name in case.taps}
    two_steps(case.network(axes), teacher, {"student": case.taps, "teacher": names}, case.image(axes), case.heads)


@pytest.mark.parametrize(("case", "axes"), TEACHERS)
def test_teacher(case: Case, axes: int):
    student = nets.BasicUNet(axes, case.channels, CLASSES, (4, 4, 4, 4, 4, 4))
    two_steps(student, case.network(axes), {"student": UPCATS, "teacher": case.taps}, case.image(axes), heads=1)


@pytest.mark.parametrize(("case", "axes"), EACH)
def test_taps_and_logits(case: Case, axes: int):
    net, image = case.network(axes).eval(), case.image(axes)
    taps = FeatureTaps(net, case.taps)
    with torch.no_grad():
        logits = PlanarInferer()(image, net) if axes == 2 else LogitsInferer(SimpleInferer())(image, net)
        found = taps.take()
        assert logits.shape == (BATCH, CLASSES, *image.shape[2:])
        for (name, features), stride in zip(found.items(), case.strides, strict=True):
            assert [side // stride for side in image.shape[2:]] == list(features.shape[2:]), name
        window = LogitsInferer(SlidingWindowInferer(case.sizes[axes]))(image, net)
        torch.testing.assert_close(window, logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("case", "axes"), EACH)
def test_state_of_the_student_is_that_of_the_bare_network(case: Case, axes: int, tmp_path):
    net = case.network(axes, seed=0)
    distiller = Distiller(net, None, case.taps)
    torch.save(distiller.student.state_dict(), tmp_path / "model.pt")
    other = case.network(axes, seed=5).eval()
    assert list(other.state_dict()) == list(net.state_dict())
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    inferer, image = LogitsInferer(SimpleInferer()), case.image(axes)
    with torch.no_grad():
        assert torch.equal(inferer(image, other), inferer(image, net.eval()))


@pytest.mark.parametrize(("case", "axes"), [each for each in EACH if each.id.endswith("2d")])
def test_channels_last_and_half_precision(case: Case, axes: int):
    net, image = case.network(axes).eval(), case.image(axes)
    inferer = PlanarInferer()
    with torch.no_grad():
        expected = inferer(image, net)
        last = copy.deepcopy(net).to(memory_format=torch.channels_last)
        found = inferer(image.to(memory_format=torch.channels_last), last)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
        half = PlanarInferer(amp=True)(image, last)
        assert half.dtype is torch.float32
        assert (half - expected).abs().mean() < 0.05 * max(float(expected.abs().max()), 0.1)
    with autocast("cpu", True):
        features = Distiller(last.train(), None, case.taps)(image)
    found = [features["student"], *features["student_features"].values()]
    sum(each.float().mean() for each in found).backward()
    assert any(parameter.grad is not None for parameter in last.parameters())
