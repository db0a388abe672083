"""Names of devices."""

from __future__ import annotations

import pytest
import torch

from monai_kd.config import available_devices, checked_device, default_device


@pytest.fixture
def two_gpus(monkeypatch):
    """As far as names go: tensors stay on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))


def test_the_cpu_is_always_there():
    assert available_devices()[0] == "cpu"
    assert checked_device("cpu") == checked_device(torch.device("cpu")) == "cpu"
    assert checked_device(default_device()) == default_device()


def test_gpus_are_those_that_are_here(two_gpus):
    assert available_devices() == ["cpu", "cuda", "cuda:0", "cuda:1"]
    assert default_device() == "cuda"
    for name in available_devices():
        assert checked_device(name) == checked_device(torch.device(name)) == name


@pytest.mark.parametrize(
    "name", ["cuda:2", "cuda:-1", "cuda:01", "CUDA", " cpu", "cpu:0", "meta", "mps", "", "$'cpu'", 0, None, ["cpu"]]
)
def test_everything_else_is_refused(two_gpus, name):
    with pytest.raises(ValueError, match="device must be one of cpu, cuda, cuda:0, cuda:1, got "):
        checked_device(name)


def test_long_names_are_cut_in_the_message():
    with pytest.raises(ValueError) as caught:
        checked_device("x" * 10_000)
    assert len(str(caught.value)) < 150


def test_a_device_that_fails_is_said_in_one_line(two_gpus, monkeypatch):
    def fail(*size: int, device: str) -> torch.Tensor:
        raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA\n")

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(ValueError, match=r"^device cuda:1 can't be used at the moment: CUDA error: out of memory$"):
        checked_device("cuda:1")
