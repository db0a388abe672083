"""Inference averaged over mirrored images."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from monai_kd.config import check_settings
from monai_kd.engines import LogitsInferer, PlanarInferer
from monai_kd.engines.inferer import mirrored


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def network(axes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return (nn.Conv2d if axes == 2 else nn.Conv3d)(3, 2, 3, padding=1).eval()


def by_kernel(net: nn.Module, axes: list[int]) -> nn.Module:
    """The same average for a convolution: by its kernel, averaged over its mirror images."""
    other = network(len(net.kernel_size))
    kernels = [net.weight.data]
    for axis in axes:
        kernels += [kernel.flip(2 + axis) for kernel in kernels]
    other.weight.data = torch.stack(kernels).mean(0)
    return other


# (B, 3, H, W) or (B, 3, H, W, D)
@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (2, 3, 8, 6, 5)])
@pytest.mark.parametrize("mirror", [[], [0], [1], [0, 1]])
def test_slices(shape, mirror):
    net, image = network(), noise(*shape)
    with torch.no_grad():
        found = PlanarInferer(mirror=mirror, slices_per_batch=3)(image, net)
        torch.testing.assert_close(found, PlanarInferer()(image, by_kernel(net, mirror)))


@pytest.mark.parametrize("mirror", [[2], [0, 2], [0, 1, 2]])
def test_volumes(mirror):
    net, volume = network(3), noise(1, 3, 6, 5, 4)
    with torch.no_grad():
        found = LogitsInferer(SimpleInferer(), mirror=mirror)(volume, net)
        torch.testing.assert_close(found, by_kernel(net, mirror)(volume))


def test_logits_of_classes_are_averaged():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    image = noise(2, 3, 4, 4)
    with torch.no_grad():
        found = PlanarInferer(mirror=[1])(image, net)
        torch.testing.assert_close(found, (net(image) + net(image.flip(3))) / 2)


@pytest.mark.parametrize(("mirror", "passes"), [([], 1), ([0], 2), ([0, 1], 4)])
def test_number_of_passes(mirror, passes):
    seen = []
    mirrored(noise(1, 3, 4, 4), lambda image: seen.append(image) or image, mirror)
    assert len(seen) == passes
    assert all(not torch.equal(one, other) for one in seen for other in seen if one is not other)


@pytest.mark.parametrize("mirror", [[2], [0, 0], [-1], [True], "01", 0.5, [[0]]])
def test_what_is_refused(mirror):
    with pytest.raises(ValueError, match="mirror must be a list of different axes from 0 to 1"):
        PlanarInferer(mirror=mirror)


@pytest.mark.parametrize("mirror", [True, 1, [0.5], ["x"], [0, 0], [-1]])
def test_what_configs_refuse(mirror):
    with pytest.raises(ValueError, match=r"mirror must be a list of different axes, such as \[0\] or \[0, 1\], got"):
        check_settings({"mirror": mirror})
    check_settings({"mirror": [0, 1]})
