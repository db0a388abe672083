"""Training in several processes started by torchrun: one for each GPU (NCCL), or on CPUs (gloo)."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

# Not used here, but imported before there is a process group: DDP imports it later, and its functions then take the
# group as a default value of an argument, which keeps the group alive for ever.
import torch.distributed.nn.functional
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..io.first_process import is_distributed

# Modules that hold the process group for as long as they live.
_wrapped: weakref.WeakSet[DistributedDataParallel] = weakref.WeakSet()

__all__ = [
    "distributed",
    "local_rank",
    "rank",
    "rank_zero_first",
    "start_processes",
    "stop_processes",
]


def _from_torchrun(name: str) -> int:
    if name not in os.environ:
        raise RuntimeError(
            f"{name} is not set: multi_gpu_train.json is for torchrun, as in `torchrun --nproc_per_node=2 "
            "-m monai.bundle run training --config_file \"['.../train.json','.../multi_gpu_train.json']\"`."
        )
    return int(os.environ[name])


def rank() -> int:
    """Rank of this process among all processes.

    Raises:
        RuntimeError: not started by torchrun.
    """
    return _from_torchrun("RANK")


def local_rank() -> int:
    """Rank of this process among those of its machine, which is the index of its GPU.

    Raises:
        RuntimeError: not started by torchrun.
    """
    return _from_torchrun("LOCAL_RANK")


def start_processes(device: torch.device | str) -> None:
    """Join the process group, unless this process has joined it: NCCL for CUDA devices, gloo for CPUs."""
    device = torch.device(device)
    rank()
    if is_distributed():
        # The teacher's run within the run of its student.
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend="nccl" if device.type == "cuda" else "gloo")


def stop_processes() -> None:
    """Leave the process group, and wait until its threads have ended.

    Modules that `distributed` wrapped can't be trained afterwards.

    A thread of gloo releases the tensors of its last operation some time after the operation. If Python is shutting
    down by then, the thread aborts the process ("terminate called without an active exception", exit code -6). The
    threads are joined only when the last reference to the group is gone, so the references of wrapped modules are
    deleted first.
    """
    if not is_distributed():
        return
    for module in _wrapped:
        del module.reducer, module.logger, module.process_group
    _wrapped.clear()
    dist.destroy_process_group()


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """A block that rank 0 runs first, while the other processes of the group wait before theirs.

    Example:
        >>> with rank_zero_first():  # without a group, there is nothing to wait for
        ...     done = True
    """
    if is_distributed() and dist.get_rank() > 0:
        dist.barrier()
    yield
    if is_distributed() and dist.get_rank() == 0:
        dist.barrier()


def distributed(module: nn.Module, device: torch.device | str, find_unused: bool = False) -> nn.Module:
    """Wrap a module into ``DistributedDataParallel``; a module without trainable parameters is returned as it is.

    As usual with DDP, BatchNorm normalises by the batch of its own process, and its running statistics are those of
    rank 0.

    Args:
        module: student or loss.
        device: device of this process.
        find_unused: whether some parameters may get no gradient, such as projections of terms of weight 0, or
            heads of a network that the loss does not see.
    """
    if not any(parameter.requires_grad for parameter in module.parameters()):
        return module
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(module, device_ids=devices, find_unused_parameters=find_unused)
    _wrapped.add(wrapped)
    return wrapped
