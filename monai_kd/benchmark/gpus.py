"""A network on a GPU, in each precision, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from .compiled import compiles
from .networks import EAGER
from .options import Options
from .row import Row
from .timing import interleaved, several

__all__ = ["gpu_rows"]

RUNS, BATCH = 20, 16


def gpu_rows(
    what: str, network: nn.Module, image: np.ndarray, options: Options, device: str | torch.device = "cuda"
) -> Iterator[Row]:
    """Float32 in torch divided by every other way, of one slice and of a batch of 16, channels last.

    A compiled network is that of ``torch.compile`` in the mode "reduce-overhead", which records CUDA graphs.

    Args:
        what: name of the network.
        network: in evaluation mode; it is moved to ``device``.
        image: (1, C, H, W).
        options: of the benchmark.
        device: a GPU; a CPU to try whether it runs.
    """
    device = torch.device(device)
    network = network.to(device).to(memory_format=torch.channels_last)
    for count in (1, BATCH):
        images = torch.as_tensor(image).expand(count, -1, -1, -1).to(device, memory_format=torch.channels_last)
        with torch.inference_mode():
            ways = {name: partial(several, way, RUNS, device) for name, way in _ways(network, images, options).items()}
            times = {name: time / RUNS for name, time in interleaved(ways, options.repeat).items()}
        for name in list(times)[1:]:
            pair = {EAGER: times[EAGER], name: times[name]}
            slices = "one slice" if count == 1 else f"{count} slices"
            yield Row(f"{what} on a GPU, {slices}: {EAGER} ÷ {name}", "measured", pair[EAGER] / pair[name], pair)


def _ways(network: nn.Module, images: torch.Tensor, options: Options) -> dict[str, Callable[[], object]]:
    def run(module: Callable[[torch.Tensor], object], dtype: torch.dtype) -> object:
        with torch.autocast(images.device.type, dtype=dtype):
            return module(images)

    ways: dict[str, Callable[[], object]] = {EAGER: lambda: network(images)}
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        ways[f"{name} autocast"] = partial(run, network, dtype)
    if not options.tiny:
        # For each size anew: a kernel for any number of slices is another one.
        compiled = torch.compile(network, mode="reduce-overhead", dynamic=False)
        if compiles(partial(run, compiled, torch.bfloat16)):
            ways["torch.compile, bfloat16"] = partial(run, compiled, torch.bfloat16)
    return ways
