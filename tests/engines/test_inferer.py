"""Slices and volumes through one 2-D network."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from monai_kd.engines import LogitsInferer, PlanarInferer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2, padding=1)).eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("slices_per_batch", [1, 2, 16])  # one at a time, across volumes, all at once
@pytest.mark.parametrize("depth", [1, 5])
def test_volume_equals_its_slices(depth, slices_per_batch):
    net, volume = network(), noise(3, 3, 8, 6, depth)  # (B, C, H, W, D), all different
    found = PlanarInferer(slices_per_batch=slices_per_batch)(volume, net)
    expected = torch.stack([net(volume[..., i]) for i in range(depth)], dim=-1)
    assert found.shape == (3, 2, 4, 3, depth)
    torch.testing.assert_close(found, expected)


def test_image_goes_through_as_it_is():
    net, image = network(), noise(2, 3, 8, 6)
    assert torch.equal(PlanarInferer()(image, net), net(image))


def test_runs_few_slices_at_once():
    sizes = []

    def spy(x: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(x.shape))
        return x

    PlanarInferer(slices_per_batch=4)(noise(2, 3, 8, 6, 5), spy)
    assert sizes == [(4, 3, 8, 6), (4, 3, 8, 6), (2, 3, 8, 6)]


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (2, 3, 8, 6, 3)])
def test_metatensor(shape):
    kinds = []
    net, image = network(), noise(*shape)
    net.register_forward_pre_hook(lambda _m, inputs: kinds.append(type(inputs[0])))
    found = PlanarInferer()(MetaTensor(image), net)
    assert set(kinds) == {torch.Tensor}
    assert torch.equal(found, PlanarInferer()(image, net))


@pytest.mark.parametrize("amp", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (2, 3, 8, 6, 3)])
def test_half_inside_float_outside(shape, amp):
    kinds, net, image = set(), network(), noise(*shape)
    net[0].register_forward_hook(lambda _m, _i, out: kinds.add(out.dtype))
    found = PlanarInferer(amp=amp)(image, net)
    assert kinds == {torch.bfloat16 if amp else torch.float32}
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, PlanarInferer()(image, network()), atol=0.05, rtol=0.05)


def test_arguments_reach_the_network():
    found = PlanarInferer()(noise(1, 3, 4, 4, 2), lambda x, a, b: x * a + b, 2.0, b=1.0)
    torch.testing.assert_close(found, noise(1, 3, 4, 4, 2) * 2 + 1)


@pytest.mark.parametrize("shape", [(3, 8, 6), (1, 1, 3, 8, 6, 3)])
def test_other_numbers_of_axes(shape):
    with pytest.raises(ValueError, match=r"expected \(B, C, H, W\) or \(B, C, H, W, D\), got \("):
        PlanarInferer()(noise(*shape), network())


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 3, 8, 8, 2)])
def test_logits_that_are_not_finite_are_refused(shape):
    # Below every threshold, NaN would be reported as a slice without a tumour.
    network = torch.nn.Conv2d(3, 1, 1)
    torch.nn.init.constant_(network.weight, float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        PlanarInferer()(torch.zeros(shape), network)


class Talkative(nn.Module):
    """(logits, hidden), in which the logits are those of a plain network."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, image: torch.Tensor):
        return self.plain(image), [image]


@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (2, 3, 8, 6, 3)])
def test_only_logits_come_back(shape):
    image = noise(*shape)
    assert torch.equal(PlanarInferer()(image, Talkative(network())), PlanarInferer()(image, network()))


@pytest.mark.parametrize("inferer", [SimpleInferer(), SlidingWindowInferer((8, 8, 8), overlap=0.5, mode="gaussian")])
@pytest.mark.parametrize("amp", [False, True])
def test_inferers_of_monai_see_logits(inferer, amp):
    torch.manual_seed(0)
    net, volume = nn.Conv3d(2, 1, 3, padding=1).eval(), noise(1, 2, 12, 12, 8)
    found = LogitsInferer(inferer, amp)(MetaTensor(volume), Talkative(net))
    assert type(found) is torch.Tensor
    assert found.dtype is torch.float32
    tolerance = {"atol": 0.05, "rtol": 0.05} if amp else {"atol": 1e-6, "rtol": 1e-6}
    torch.testing.assert_close(found, inferer(volume, net), **tolerance)


def test_logits_inferer_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        LogitsInferer(SimpleInferer())(torch.zeros(1, 1, 4, 4), lambda image: image / 0)


def narrow() -> nn.Module:
    """Sees 2 voxels to each side."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 3, 3, padding=1)).eval()


@pytest.mark.parametrize("size", [(12, 10, 8), (16, 12, 10)])
def test_a_window_that_holds_the_volume_is_the_network_itself(size):
    net, volume = narrow(), noise(1, 4, *size)
    window = SlidingWindowInferer(roi_size=size, overlap=0.5, mode="gaussian")
    torch.testing.assert_close(LogitsInferer(window)(volume, net), net(volume))


def test_inside_of_windows_is_what_the_network_sees_of_the_whole_volume():
    """Without overlap, voxels that lie 2 or more from the border of their window; the border of the volume is one."""
    net, volume = narrow(), noise(1, 4, 16, 16, 8)
    found = LogitsInferer(SlidingWindowInferer(roi_size=(8, 8, 8), overlap=0.0, sw_batch_size=3))(volume, net)
    expected = net(volume)
    for x in (0, 8):
        for y in (0, 8):
            inside = (..., slice(x + 2, x + 6), slice(y + 2, y + 6), slice(2, 6))
            torch.testing.assert_close(found[inside], expected[inside])
    assert not torch.allclose(found[..., 7:9, :, :], expected[..., 7:9, :, :])


def test_windows_of_a_network_with_deep_supervision_are_of_its_main_head():
    net = narrow()

    def heads(image: torch.Tensor) -> torch.Tensor:
        return torch.stack([net(image), torch.full_like(net(image), 7)], dim=1)

    volume, window = noise(1, 4, 10, 9, 8), SlidingWindowInferer(roi_size=(8, 8, 8), overlap=0.5)
    with torch.no_grad():
        torch.testing.assert_close(LogitsInferer(window)(volume, heads), LogitsInferer(window)(volume, net))
