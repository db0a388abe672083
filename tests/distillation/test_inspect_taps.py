"""What can be tapped: found by running the network, checked against `FeatureTaps`."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from monai_kd.distillation import FeatureTaps, inspect_taps


class Odd(nn.Module):
    """A module of each kind that can't be tapped, and two that can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)  # runs twice
        self.deep = nn.ModuleList([nn.Conv2d(4, 4, 1)])  # the list itself does not run
        self.pool = nn.MaxPool2d(2, return_indices=True)  # a tuple
        self.idle = nn.Conv2d(1, 1, 1)
        self.added = nn.Conv2d(4, 4, 1)  # overwritten by the forward itself
        self.flat = nn.Flatten(2)  # no map

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.deep[0](self.relu(self.conv(x)))
        x, _ = self.pool(self.relu(x))
        x = self.added(x)
        x += 1
        return self.flat(x)


def test_table():
    rows = {row.path: (row.shape, row.stride, row.problem) for row in inspect_taps(Odd(), [1, 8, 16])}
    map2, map4 = ([1, 4, 4, 8], [2, 2]), ([1, 4, 2, 4], [4, 4])
    assert rows == {
        "conv": (*map2, "is overwritten in place"),
        "relu": (*map2, "runs 2 times"),
        "deep": (None, None, "does not run"),
        "deep.0": (*map2, "is overwritten in place"),
        "pool": (None, None, "outputs a tuple"),
        "idle": (None, None, "does not run"),
        "added": (*map4, "is overwritten in place"),
        "flat": ([1, 4, 8], None, ""),
    }


@pytest.mark.parametrize("inference", [False, True])
def test_agrees_with_the_taps(inference):
    net = Odd()
    with torch.inference_mode(inference):
        rows = inspect_taps(net, [1, 8, 16])
    for row in rows:
        if row.problem.startswith("runs"):
            continue  # a tap records the last of its outputs
        taps = FeatureTaps(net, {"x": row.path})
        try:
            net(torch.zeros(1, 1, 8, 16))
            shape = list(taps.take()["x"].shape)
        except (RuntimeError, TypeError, ValueError):
            shape = None
        taps.remove()
        assert shape == (None if row.problem else row.shape), row


def test_parameters_and_strides_of_a_volume():
    net = BasicUNet(spatial_dims=3, in_channels=2, out_channels=1, features=(4, 4, 4, 4, 4, 4))
    rows = {row.path: row for row in inspect_taps(net, [2, 32, 16, 16])}
    for level, stride in (("upcat_4", 8), ("upcat_3", 4), ("upcat_2", 2), ("upcat_1", 1)):
        assert rows[level].stride == [stride] * 3
        assert rows[level].problem == ""
    assert sum(row.parameters for path, row in rows.items() if "." not in path) == sum(
        p.numel() for p in net.parameters()
    )


def test_network_is_left_as_it_was():
    net = BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=(4, 4, 4, 4, 4, 4), norm="batch").train()
    net.down_1.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    inspect_taps(net, [1, 16, 16])
    assert net.conv_0.training
    assert not net.down_1.training
    assert not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(RuntimeError, match="to have 1 channel"):
        inspect_taps(net, [3, 16, 16])
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())
