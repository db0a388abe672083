"""Feature taps: what they record, and what they leave alone."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.distributed as dist
from monai.networks.nets import BasicUNet
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from monai_kd.distillation import FeatureTaps

PATHS = {"d4": "upcat_4", "d1": "upcat_1"}


def network() -> nn.Module:
    torch.manual_seed(0)
    return BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=(4, 4, 8, 8, 16, 4))


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def alone(tmp_path):
    """A process group of one."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_records_what_the_modules_return():
    # A chain, so that the tapped values can be computed by running its first links.
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()))
    taps = FeatureTaps(net, {"late": "2.0", "early": "1"})
    x = image()
    net(x)
    found = taps.take()
    assert list(found) == ["late", "early"]
    torch.testing.assert_close(found["early"], net[:2](x), rtol=0, atol=0)
    torch.testing.assert_close(found["late"], net[2][0](net[:2](x)), rtol=0, atol=0)


def test_gradient_flows_through_a_tap():
    net = network()
    taps = FeatureTaps(net, PATHS)
    net(image())
    taps.take()["d4"].sum().backward()
    assert net.conv_0.conv_0.conv.weight.grad.abs().sum() > 0
    assert net.final_conv.weight.grad is None  # behind the tap


def test_network_is_untouched():
    net = network().eval()
    before, keys = net(image()), list(net.state_dict())
    FeatureTaps(net, PATHS)
    assert torch.equal(net(image()), before)
    assert list(net.state_dict()) == keys
    network().load_state_dict(net.state_dict(), strict=True)


def test_take_forgets():
    net = network()
    taps = FeatureTaps(net, PATHS)
    net(image())
    taps.take()
    with pytest.raises(RuntimeError, match=r"tap\(s\) d4, d1 recorded nothing: run the network first"):
        taps.take()


def test_the_last_forward_counts():
    net = network().eval()
    taps = FeatureTaps(net, PATHS)
    net(image(1))
    net(image(2))
    last = taps.take()["d1"]
    net(image(2))
    assert torch.equal(taps.take()["d1"], last)
    net(image(1))
    assert not torch.equal(taps.take()["d1"], last)


def test_taken_features_survive_the_next_forward():
    net = network().eval()
    taps = FeatureTaps(net, PATHS)
    net(image(1))
    first = taps.take()
    copy = first["d1"].clone()
    net(image(2))
    assert set(first) == set(PATHS)
    assert torch.equal(first["d1"], copy)


def test_a_module_that_never_runs_is_named():
    net = nn.Sequential(nn.Conv2d(1, 1, 1))
    net.unused = nn.Module()
    net.forward = lambda x: net[0](x)
    taps = FeatureTaps(net, {"used": "0", "idle": "unused"})
    net(image())
    with pytest.raises(RuntimeError, match=r"tap\(s\) idle recorded nothing.*never calls unused"):
        taps.take()


def test_removal():
    net = network()
    taps = FeatureTaps(net, PATHS)
    net(image())
    taps.remove()
    net(image())
    with pytest.raises(RuntimeError, match="recorded nothing"):
        taps.take()
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("upcat4", r" \(did you mean upcat_4 or .*\?\)\."),
        ("down_5", r" \(did you mean down_"),
        ("unet.upcat_4", r" \(did you mean .*upcat_4"),  # the teacher's path, given for the student
        ("", r"\.$"),  # the root has its output already
    ],
)
def test_wrong_path_lists_the_nearest_names(path, nearest):
    with pytest.raises(ValueError, match=rf"tap 'd4': BasicUNet has no module '{path}'{nearest}"):
        FeatureTaps(network(), {"d4": path})


def test_bfloat16_autocast():
    net = network()
    taps = FeatureTaps(net, PATHS | {"conv": "conv_0.conv_0.conv"})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(image())
    found = taps.take()
    assert found["conv"].dtype is torch.bfloat16
    assert found["d1"].shape == (2, 4, 32, 32)


def test_under_ddp(alone):
    net = network().eval()
    taps = FeatureTaps(net, PATHS)
    net(image())
    expected = taps.take()
    wrapped = DistributedDataParallel(net)
    wrapped(image())
    found = taps.take()
    assert all(torch.equal(found[name], expected[name]) for name in PATHS)


def test_under_compile():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 1)).eval()
    taps = FeatureTaps(net, {"norm": "1", "conv": "0"})
    counter = CompileCounter()  # runs the traced graph as it is, and counts how often it was traced
    compiled = torch.compile(net, backend=counter)
    frames = []
    for seed in range(4):
        compiled(image(seed))
        found = taps.take()
        net(image(seed))
        expected = taps.take()
        assert found["norm"].requires_grad
        for name in ("norm", "conv"):
            torch.testing.assert_close(found[name], expected[name])
        frames.append(counter.frame_count)
        with torch.no_grad():
            net(image(seed))  # as in validation, where nobody takes
    # Tracing again for each batch would take minutes each time with a real backend.
    assert frames[0] > 0
    assert len(set(frames)) == 1


def test_taps_do_not_cut_a_compiled_network():
    """In parts, each would be started by Python; ``fullgraph`` raises where there are several."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 1, 1))
    taps = FeatureTaps(net, {"relu": "1"})
    logits = torch.compile(net, backend="eager", fullgraph=True)(image())
    found = taps.take()["relu"]
    torch.testing.assert_close(net[2](found), logits)
    logits.sum().backward()
    assert net[0].weight.grad is not None


def test_a_module_without_a_tensor_is_named():
    network = nn.Sequential(nn.LSTM(3, 3))
    FeatureTaps(network, {"memory": "0"})
    with pytest.raises(TypeError, match=r"tap 'memory': 0 \(LSTM\) returns a tuple"):
        network(torch.zeros(2, 3))


class InPlace(nn.Module):
    """A convolution whose output is overwritten by the activation behind it, as in the VGGs of timm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize("gradients", [True, False])
def test_overwritten_output_is_refused_and_the_one_behind_it_taken(gradients):
    net = InPlace()
    overwritten, behind = FeatureTaps(net, {"conv": "layers.0"}), FeatureTaps(net, {"relu": "layers.1"})
    with torch.set_grad_enabled(gradients):
        net(image())
    with pytest.raises(ValueError, match=r"tap\(s\) conv: the output of layers.0 was overwritten"):
        overwritten.take()
    assert torch.equal(behind.take()["relu"], net.layers[0](image()).relu())


def test_inference_mode_can_be_tapped():
    net = network()
    taps = FeatureTaps(net, PATHS)
    with torch.inference_mode():
        net(image())
        assert set(taps.take()) == set(PATHS)


class Checkpointed(nn.Module):
    """A stem, a block that is run under activation checkpointing, and a head."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 4, 1)))
        self.head = nn.Conv2d(4, 1, 1)
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = self.block(x) if self.reentrant is None else checkpoint(self.block, x, use_reentrant=self.reentrant)
        return self.head(x)


def checkpointed(reentrant: bool | None) -> nn.Module:
    torch.manual_seed(0)
    return Checkpointed(reentrant)


@pytest.mark.parametrize("path", ["block.0", "block.1", "block.2"])  # the second is a ReLU, without parameters
def test_reentrant_checkpointing_is_refused(path):
    # Its first pass runs without gradients: the features would be detached and the term would teach nothing.
    net = checkpointed(reentrant=True)
    taps = FeatureTaps(net, {"stem": "stem", "x": path})
    net(image())
    with pytest.raises(RuntimeError, match=rf"tap\(s\) x: {path} ran with gradients off.* pass use_reentrant=False"):
        taps.take()


def test_other_checkpointing_trains_as_without():
    found = []
    for reentrant in (None, False):
        net = checkpointed(reentrant)
        taps = FeatureTaps(net, {"x": "block.1"})
        net(image())
        taps.take()["x"].square().mean().backward()
        found.append([net.stem.weight.grad, net.block[0].weight.grad])
    assert found[0][0].abs().sum() > 0
    torch.testing.assert_close(*found)


def test_the_run_in_the_backward_pass_is_not_recorded():
    # Or its graph would be kept alive until the next batch, beside that of the next batch.
    net = checkpointed(reentrant=False)
    taps = FeatureTaps(net, {"x": "block.0"})
    runs = []
    net.block[0].register_forward_hook(lambda *_: runs.append(1))
    for _ in range(2):
        output = net(image())
        (output.sum() + taps.take()["x"].sum()).backward()
        with pytest.raises(RuntimeError, match="recorded nothing"):
            taps.take()
    assert len(runs) == 4  # the module did run again


def test_reentrant_checkpointing_of_what_is_not_tapped():
    net = checkpointed(reentrant=True)
    taps = FeatureTaps(net, {"stem": "stem", "head": "head"})
    net(image())
    assert all(features.requires_grad for features in taps.take().values())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_reentrant_checkpointing_without_gradients_is_allowed(mode):
    net = checkpointed(reentrant=True).eval()
    taps = FeatureTaps(net, {"x": "block.1"})
    with mode():
        net(image())
    assert set(taps.take()) == {"x"}


def test_frozen_network_under_reentrant_checkpointing_is_allowed():
    net = checkpointed(reentrant=True).requires_grad_(False)
    taps = FeatureTaps(net, {"conv": "block.0", "relu": "block.1"})
    net(image().requires_grad_())
    assert set(taps.take()) == {"conv", "relu"}


def test_layers_without_trained_inputs_are_allowed():
    # A pooled image needs no gradient, though gradients are on and the network around it is trained.
    net = nn.Sequential(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 2, 1)))
    taps = FeatureTaps(net, {"pooled": "0.0"})
    net(image())
    assert not taps.take()["pooled"].requires_grad


def test_layers_that_are_frozen_later_are_allowed():
    net = checkpointed(reentrant=True)
    taps = FeatureTaps(net, {"x": "block.1"})
    net.requires_grad_(False)
    net(image().requires_grad_())
    assert set(taps.take()) == {"x"}


def test_tapped_network_can_be_copied_and_released():
    net = network()
    taps = FeatureTaps(net, PATHS)
    net(image())  # what is recorded belongs to a graph, which can't be copied
    copy.deepcopy(net)
    taps.remove()
    assert not any(module._forward_pre_hooks for module in net.modules())
