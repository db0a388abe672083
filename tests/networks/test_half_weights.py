"""Weights that are converted once give what autocast gives."""

from __future__ import annotations

import pickle
import threading

import pytest
import torch
from dispatched import Dispatched
from monai.inferers import SimpleInferer
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from monai_kd.distillation import Distiller
from monai_kd.engines.inferer import LogitsInferer, PlanarInferer
from monai_kd.networks.half_weights import HalfWeights


class Net(nn.Module):
    """Layers that autocast converts, that it does not, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, stride=2)
        )
        self.normed = weight_norm(nn.Conv2d(4, 4, 1))
        self.one, self.norm, self.two = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.normed(self.body(x)).flatten(2).mT
        tokens = self.two(self.norm(self.one(tokens)))
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_same_bits_as_autocast(dtype):
    net, image = Net().eval().requires_grad_(False), torch.randn(2, 3, 6, 6)
    half = HalfWeights(net)
    with torch.no_grad():
        assert torch.equal(half(image), net(image))
        with torch.autocast("cpu", dtype):
            for _ in range(2):
                assert torch.equal(half(image), net(image))
    # conv, transposed conv, and what belongs to one Linear alone: two biases
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert [names[id(slot.value)] for slot in half._slots] == [
        *("body.0.weight", "body.0.bias", "body.3.weight", "body.3.bias", "one.bias", "two.bias")
    ]
    assert {slot.half.dtype for slot in half._slots} == {dtype}
    assert all(parameter.dtype is torch.float32 for parameter in net.parameters())


def test_weights_that_were_changed_or_replaced_are_converted_again():
    net, image = nn.Conv2d(1, 2, 1).requires_grad_(False), torch.randn(1, 1, 3, 3)
    half = HalfWeights(net)
    with torch.no_grad(), torch.autocast("cpu"):
        half(image)
        made = half._slots[0].half
        half(image)
        assert half._slots[0].half is made
        net.load_state_dict(nn.Conv2d(1, 2, 1).state_dict())
        assert torch.equal(half(image), net(image))
        net.weight = nn.Parameter(torch.ones_like(net.weight), requires_grad=False)
        assert torch.equal(half(image), net(image))


def test_weights_that_are_shared_later_are_not_converted():
    net, image = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)).requires_grad_(False), torch.randn(1, 2, 3, 3)
    half = HalfWeights(net)
    with torch.no_grad(), torch.autocast("cpu"):
        half(image)
        net[1].weight = net[0].weight
        assert torch.equal(half(image), net(image))
    assert {id(slot.value) for slot in half._slots} == {id(net[0].bias), id(net[1].bias)}


def test_the_network_keeps_its_weights_when_it_fails():
    net = nn.Conv2d(1, 2, 3).requires_grad_(False)
    before = dict(net.named_parameters())
    with torch.no_grad(), torch.autocast("cpu"), pytest.raises(RuntimeError, match="channels"):
        HalfWeights(net)(torch.ones(1, 5, 4, 4))
    assert all(parameter is before[name] for name, parameter in net.named_parameters())
    assert net.weight.dtype is torch.float32


def test_weights_that_are_trained_are_left_to_autocast():
    net, image = nn.Conv2d(1, 2, 1), torch.randn(1, 1, 3, 3)
    half = HalfWeights(net)
    with torch.autocast("cpu"):
        half(image).float().square().sum().backward()
    assert net.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu"):
        before = half(image)
    # As in some optimisers: the version of the weight does not count it.
    net.weight.data.add_(1)
    with torch.no_grad(), torch.autocast("cpu"):
        assert not torch.equal(half(image), before)
        net.requires_grad_(False)
        half(image)
        assert [slot.half.dtype for slot in half._slots] == [torch.bfloat16] * 2
        net.weight.requires_grad_(True)
        half(image)
        assert [slot.half.dtype for slot in half._slots] == [torch.float32, torch.bfloat16]


def test_weights_made_in_inference_mode_count_no_changes():
    with torch.inference_mode(), torch.autocast("cpu"):
        net, image = nn.Conv2d(1, 2, 1).requires_grad_(False), torch.randn(1, 1, 3, 3)
        half = HalfWeights(net)
        half(image)
        net.load_state_dict(nn.Conv2d(1, 2, 1).state_dict())
        assert torch.equal(half(image), net(image))


def test_weights_that_were_moved_to_and_fro_are_converted_again():
    net, image = nn.Linear(64, 64).requires_grad_(False), torch.randn(1, 64)
    half = HalfWeights(net)
    with torch.no_grad(), torch.autocast("cpu"):
        for _ in range(20):
            half(image)
            # The second may get the memory that the first leaves.
            for _ in range(2):
                net.weight.data = torch.randn(64, 64)
            assert torch.equal(half(image), net(image))


@pytest.mark.parametrize("norm", [torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm])
def test_weights_that_are_computed_in_each_call(norm):
    net, image = norm(nn.Conv2d(2, 2, 1)).eval().requires_grad_(False), torch.randn(1, 2, 3, 3)
    half = HalfWeights(net)
    with torch.no_grad(), torch.autocast("cpu"):
        assert torch.equal(half(image), net(image))
    assert [slot.name for slot in half._slots] == ["bias"]


def test_a_region_without_autocast():
    class Region(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.calls = nn.Linear(2, 2), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            with torch.autocast("cpu", enabled=False):
                return self.inside(x.float())

    net, image = Region().requires_grad_(False), torch.randn(1, 2)
    half = HalfWeights(net)
    with torch.no_grad(), torch.autocast("cpu"):
        assert torch.equal(half(image), net(image))
        before = net.calls
        assert torch.equal(half(image), net(image))
    # Not tried again.
    assert net.calls == before + 2
    assert net.inside.weight.dtype is torch.float32


def test_a_weight_that_the_network_replaces_stays():
    net = nn.Conv2d(1, 1, 1).requires_grad_(False)
    new = nn.Parameter(torch.ones_like(net.weight), requires_grad=False)
    net.register_forward_hook(lambda *_: setattr(net, "weight", new))
    with torch.no_grad(), torch.autocast("cpu"):
        HalfWeights(net)(torch.ones(1, 1, 2, 2))
    assert net.weight is new


def test_an_argument_of_the_network_may_be_named_image():
    class Named(nn.Module):
        def forward(self, x: torch.Tensor, image: float) -> torch.Tensor:
            return x[:, :1] * image

    assert PlanarInferer()(torch.ones(1, 1, 1, 1), Named(), image=2.0).item() == 2


def test_copies_of_an_inferer_hold_no_network():
    inferer, net = PlanarInferer(amp=True), nn.Conv2d(3, 1, 1).requires_grad_(False)
    with torch.no_grad():
        inferer(torch.zeros(1, 3, 4, 4), net)
    assert inferer._run._last is not None
    assert pickle.loads(pickle.dumps(inferer))._run._last is None


def test_two_threads_in_one_network():
    """One is in it while the other begins and ends: both get what autocast gives, and the weights are there after."""
    conv, image = nn.Conv2d(1, 1, 1), torch.randn(1, 1, 3, 3)
    inside, ended = threading.Event(), threading.Event()

    class Waits(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                assert ended.wait(10)
            return x

    net = nn.Sequential(Waits(), conv).requires_grad_(False)
    half, found = HalfWeights(net), []

    def other() -> None:
        with torch.no_grad(), torch.autocast("cpu"):
            found.append(half(image))

    with torch.no_grad(), torch.autocast("cpu"):
        expected = conv(image)
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
        found.append(half(image))
        ended.set()
        thread.join()
    assert all(torch.equal(each, expected) for each in found)
    assert len(half._slots) == 2
    assert conv.weight.dtype is torch.float32


@pytest.mark.parametrize("inferer", [PlanarInferer(amp=True), LogitsInferer(SimpleInferer(), amp=True)])
def test_inference_converts_the_weights_once(inferer):
    net, image = Net().eval().requires_grad_(False), torch.randn(2, 3, 6, 6)
    with torch.no_grad(), torch.autocast("cpu"):
        expected = net(image).float()
    with torch.no_grad():
        for network in (net, nn.Conv2d(3, 1, 1), net):
            inferer(image, network)
        with Dispatched(torch.ops.aten._to_copy.default) as again:
            assert torch.equal(inferer(image, net), expected)
        with Dispatched(torch.ops.aten._to_copy.default) as autocast, torch.autocast("cpu"):
            net(image)
    # Six weights; the output is converted to float32.
    assert again.count == autocast.count - 6 + 1


def test_it_reads_the_weights_of_the_network_once(monkeypatch):
    net, image = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 1)).requires_grad_(False), torch.ones(1, 1, 3, 3)
    half = HalfWeights(net)
    with torch.no_grad(), torch.autocast("cpu"):
        half(image)
        # In each step, looking for them takes as long as many layers do on a GPU.
        monkeypatch.setattr(nn.Module, "named_parameters", None)
        half(image)


def test_a_distiller_gives_the_same_logits_and_features():
    teacher, image = Net(), torch.randn(2, 3, 6, 6)
    distiller = Distiller(nn.Conv2d(3, 1, 1), teacher, {}, {"f": "body.3"})
    with torch.no_grad(), torch.autocast("cpu"):
        outputs, expected = distiller.teach(image), teacher(image)
        assert torch.equal(outputs["teacher"], expected)
        assert torch.equal(outputs["teacher_features"]["f"], teacher.body(image))
