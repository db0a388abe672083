"""List the modules of a network, their outputs, and whether they can be tapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

__all__ = ["TapRow", "inspect_taps"]


@dataclass(frozen=True)
class TapRow:
    """One module of a network.

    Attributes:
        path: path of the module, for `FeatureTaps`.
        kind: name of its class.
        parameters: number of its parameters, with those of its submodules.
        shape: of its output, (B, C, …); ``None`` when that is not a tensor, or the module did not run.
        stride: for each spatial axis, the image's size divided by the output's; ``None`` for outputs without the
            image's axes.
        problem: the reason why it can't be tapped; empty when it can.
    """

    path: str
    kind: str
    parameters: int
    shape: list[int] | None = None
    stride: list[float] | None = None
    problem: str = ""


def inspect_taps(network: nn.Module, shape: Sequence[int]) -> list[TapRow]:
    """Run a network once on zeros and record the output of each module, in the order of ``named_modules()``.

    A module can't be tapped when it does not run, when it runs several times, so that its output is ambiguous, when it
    returns something other than a tensor, or when an in-place layer overwrites its output.

    Args:
        network: runs in eval mode without gradients; its mode and its hooks are restored.
        shape: of one image, (C, spatial axes …).

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        >>> for row in inspect_taps(net, [1, 8, 8]):
        ...     print(row.path, row.shape, row.stride, row.problem or "can be tapped")
        0 [1, 4, 4, 4] [2.0, 2.0] is overwritten in place
        1 [1, 4, 4, 4] [2.0, 2.0] can be tapped
    """
    # For each call: the output, and its version, which in-place changes increase.
    calls: dict[nn.Module, list[tuple[Any, int]]] = {module: [] for module in network.modules()}
    modes = {module: module.training for module in network.modules()}

    def record(module: nn.Module, _inputs: tuple, output: Any) -> None:
        calls[module].append((output, output._version if isinstance(output, torch.Tensor) else 0))

    handles = [module.register_forward_hook(record) for module in network.modules()]
    parameter = next(network.parameters(), torch.zeros(()))
    try:
        # Tensors of inference mode have no version.
        with torch.inference_mode(False), torch.no_grad():
            network.eval()(torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return [
        TapRow(
            path,
            type(module).__name__,
            sum(parameter.numel() for parameter in module.parameters()),
            *_judged(calls[module], shape[1:]),
        )
        for path, module in network.named_modules()
        if path
    ]


def _judged(calls: list[tuple[Any, int]], size: Sequence[int]) -> tuple[list[int] | None, list[float] | None, str]:
    """Shape, stride and problem."""
    if not calls:
        return None, None, "does not run"
    output, version = calls[-1]
    if not isinstance(output, torch.Tensor):
        return None, None, f"outputs a {type(output).__name__}"
    stride = None
    if output.ndim == len(size) + 2:
        stride = [side / found for side, found in zip(size, output.shape[2:], strict=True)]
    problem = "is overwritten in place" if output._version != version else ""
    return list(output.shape), stride, f"runs {len(calls)} times" if len(calls) > 1 else problem
