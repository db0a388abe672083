"""Several processes started by torchrun: one for each GPU, or on CPUs by gloo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["distributed", "first_alone", "in_processes", "local_rank", "rank", "start_processes", "stop_processes"]


def _from_torchrun(name: str) -> int:
    if name not in os.environ:
        raise RuntimeError(
            f"{name} is not set: multi_gpu_train.json is for torchrun, as in `torchrun --nproc_per_node=2 "
            "-m monai.bundle run training --config_file \"['.../train.json','.../multi_gpu_train.json']\"`."
        )
    return int(os.environ[name])


def rank() -> int:
    """Number of this process among all.

    Raises:
        RuntimeError: not started by torchrun.
    """
    return _from_torchrun("RANK")


def local_rank() -> int:
    """Number of this process on its machine, which is the number of its GPU.

    Raises:
        RuntimeError: not started by torchrun.
    """
    return _from_torchrun("LOCAL_RANK")


def start_processes(device: torch.device | str) -> None:
    """Join the process group, unless that is done: NCCL for CUDA devices, gloo for CPUs."""
    device = torch.device(device)
    rank()
    if in_processes():
        # A student's run that trains its teacher first.
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend="nccl" if device.type == "cuda" else "gloo")


def stop_processes() -> None:
    """Leave the process group."""
    if in_processes():
        dist.destroy_process_group()


def in_processes() -> bool:
    """Whether this process is one of a group."""
    return dist.is_available() and dist.is_initialized()


@contextmanager
def first_alone() -> Iterator[None]:
    """A block that the first process of a group runs before the others, which then find done what it did.

    Example:
        >>> with first_alone():  # no group, nothing to wait for
        ...     done = True
    """
    if in_processes() and dist.get_rank() > 0:
        dist.barrier()
    yield
    if in_processes() and dist.get_rank() == 0:
        dist.barrier()


def distributed(module: nn.Module, device: torch.device | str, find_unused: bool = False) -> nn.Module:
    """``DistributedDataParallel`` around a module that has something to train, the module itself otherwise.

    As elsewhere in DDP, BatchNorm normalises by the part of the batch that its own process has, and its running
    statistics are those of the first process.

    Args:
        module: student or loss.
        device: of this process.
        find_unused: some parameters may get no gradient, as projections do whose terms have weight 0.
    """
    if not any(parameter.requires_grad for parameter in module.parameters()):
        return module
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=find_unused)
