"""Several processes started by torchrun: one for each GPU, or on CPUs by gloo."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

# Not used here. Its functions take the group as a default value when it is imported, as DDP does later, and would keep
# the group alive for ever: imported before there is a group, they hold none.
import torch.distributed.nn.functional
from torch import nn
from torch.nn.parallel import DistributedDataParallel

# Modules that hold the process group for as long as they live.
_wrapped: weakref.WeakSet[DistributedDataParallel] = weakref.WeakSet()

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
    """Leave the process group, and wait until its threads have ended. What `distributed` wrapped can't be trained on.

    A thread of gloo lets go of the tensors of its last operation some time after the operation is done. When Python has
    begun to end by then, the thread brings the process down ("terminate called without an active exception", exit code
    -6). Only a group that nobody holds any more joins its threads.
    """
    if not in_processes():
        return
    for module in _wrapped:
        del module.reducer, module.logger, module.process_group
    _wrapped.clear()
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
    wrapped = DistributedDataParallel(module, device_ids=devices, find_unused_parameters=find_unused)
    _wrapped.add(wrapped)
    return wrapped
