"""The ensemble against the mean of probabilities in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet, UNet
from scipy.special import expit, softmax
from torch import nn

from monai_kd.export.onnx_file import write_onnx
from monai_kd.networks import Ensemble


class Says(nn.Module):
    """Returns what it was given, whatever the image is."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits


def saying(*logits: torch.Tensor, activation: str = "sigmoid") -> torch.Tensor:
    return Ensemble([Says(each) for each in logits], activation)(torch.zeros(1, 3, 8, 8))


def drawn(*shape: int, seed: int, scale: float = 3) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(2, 1, 5, 4), (2, 3, 5, 4), (2, 4)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_probabilities_are_the_mean(shape, count):
    logits = [drawn(*shape, seed=seed) for seed in range(count)]
    numbers = np.stack([each.double().numpy() for each in logits])
    sigmoid = torch.sigmoid(saying(*logits)).detach().numpy()
    np.testing.assert_allclose(sigmoid, expit(numbers).mean(0), rtol=1e-5)
    if shape[1] > 1:
        classes = torch.softmax(saying(*logits, activation="softmax"), 1).detach().numpy()
        np.testing.assert_allclose(classes, softmax(numbers, axis=2).mean(0), rtol=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_logits_of_equal_networks_are_theirs(activation):
    logits = drawn(2, 3, 4, 4, seed=0)
    found = saying(logits, logits, logits, activation=activation)
    torch.testing.assert_close(found, logits)


@pytest.mark.parametrize("size", [40.0, 200.0, 1e4])
def test_certain_networks_give_finite_logits_and_gradients(size):
    logits = torch.tensor([[[-size]], [[size]]]).reshape(2, 1, 1, 1)
    found = saying(logits, logits - 1)
    assert torch.isfinite(found).all()
    # sigmoid(z) is exp(z) of very negative ones: the mean of exp(-size) and exp(-size - 1).
    torch.testing.assert_close(found[0], (-size + torch.log((1 + torch.exp(torch.tensor(-1.0))) / 2)).reshape(1, 1, 1))
    disagreeing = saying(logits, -logits)
    torch.testing.assert_close(disagreeing, torch.zeros_like(disagreeing))
    network = Ensemble([Says(logits), Says(-logits)])
    network(torch.zeros(1, 3, 8, 8)).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


def test_half_precision_is_summed_in_float32():
    logits = [drawn(2, 3, 4, 4, seed=seed).bfloat16() for seed in (0, 1)]
    found = saying(*logits)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, saying(*(each.float() for each in logits)))


def test_networks_of_several_heads_give_their_main_one():
    kernels, strides = [3, 3, 3], [1, 2, 2]
    torch.manual_seed(0)
    deep = DynUNet(2, 3, 1, kernels, strides, strides[1:], filters=[4, 4, 4], deep_supervision=True, deep_supr_num=1)
    plain = UNet(2, 3, 1, channels=(4, 8), strides=(2,))
    ensemble, image = Ensemble([deep, plain]), torch.rand(2, 3, 16, 16)
    for mode in (False, True):
        ensemble.train(mode)
        # Of the last two, MONAI's network returns one tensor with an axis of heads in training mode.
        main = deep(image)[:, 0] if mode else deep(image)
        probabilities = (main.sigmoid() + plain(image).sigmoid()) / 2
        torch.testing.assert_close(ensemble(image).sigmoid(), probabilities)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_trace_gives_the_same_logits():
    ensemble = Ensemble([UNet(2, 3, 1, channels=(4, 8), strides=(2,)) for _ in range(2)]).eval()
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(torch.jit.trace(ensemble, image[:1])(image), ensemble(image))


def test_onnx_of_certain_networks_is_finite(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    networks = [nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1)]
    with torch.no_grad():
        for network in networks:
            network.weight.fill_(20)
    ensemble, image = Ensemble(networks).eval(), torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
    write_onnx(ensemble, (3, 16, 16), tmp_path / "model.onnx")
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": image.numpy()})[0]
    np.testing.assert_allclose(found, ensemble(image).detach().numpy(), rtol=1e-4, atol=1e-4)


def test_one_clear_error():
    with pytest.raises(ValueError, match="networks: an ensemble has at least one network"):
        Ensemble([])
    with pytest.raises(ValueError, match="activation must be sigmoid or softmax, got 'relu'"):
        Ensemble([nn.Identity()], "relu")
    with pytest.raises(ValueError, match=r"logits of different shapes: \[\(2, 1, 4, 4\), \(2, 1, 8, 8\)\]"):
        saying(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 4, 4))
