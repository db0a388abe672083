"""Training and evaluation mode."""

from __future__ import annotations

import pytest
from torch import nn

from monai_kd.networks.mode import set_mode


@pytest.mark.parametrize("training", [True, False])
def test_all_modules_get_the_mode(training):
    net = nn.Sequential(nn.Sequential(nn.Dropout(), nn.BatchNorm2d(1)), nn.ReLU()).train(training)
    net[0][1].train(not training)
    set_mode(net, training)
    assert all(module.training is training for module in net.modules())


def test_nothing_is_set_that_is_so_already(monkeypatch):
    net = nn.Sequential(nn.Dropout()).eval()
    monkeypatch.setattr(net, "train", None)
    set_mode(net, False)
    with pytest.raises(TypeError):
        set_mode(net, True)


def test_a_network_that_keeps_a_layer_frozen_still_does():
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            self[0].eval()
            return self

    for net in (Frozen(nn.BatchNorm2d(1), nn.Dropout()), Frozen(nn.BatchNorm2d(1), nn.Dropout()).eval()):
        for _ in range(2):
            set_mode(net, True)
            assert [module.training for module in net] == [False, True]
