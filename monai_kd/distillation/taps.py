"""Named intermediate outputs of a network, recorded by forward hooks."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import torch
from torch import nn

__all__ = ["FeatureTaps"]


class FeatureTaps:
    """Record what the named submodules of a network put out, without changing the network.

    Works on the bare network also when it is called through ``DistributedDataParallel`` or ``torch.compile`` (which
    run the same submodules); nothing is added to its state dict.

    Args:
        network: the network to listen to.
        paths: name to module path, such as ``{"d4": "upcat_4"}``, paths as in ``network.named_modules()``.

    Raises:
        ValueError: a path does not exist in the network; the message holds the nearest existing ones. From `take`: what
            was recorded has been changed in place since.
        TypeError: when the network runs: a tapped module puts out something other than a tensor.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
        >>> taps = FeatureTaps(net, {"conv": "0"})
        >>> _ = net(torch.zeros(1, 1, 4, 4))
        >>> taps.take()["conv"].shape
        torch.Size([1, 2, 4, 4])
    """

    def __init__(self, network: nn.Module, paths: Mapping[str, str]) -> None:
        modules = dict(network.named_modules())
        for name, path in paths.items():
            if path not in modules or path == "":
                near = difflib.get_close_matches(path, modules, n=4, cutoff=0.3)
                raise ValueError(
                    f"tap '{name}': {type(network).__name__} has no module '{path}'; nearest: "
                    f"{', '.join(near) or 'none'}."
                )
        self.paths = dict(paths)
        self._recorded: dict[str, torch.Tensor] = {}
        self._versions: dict[str, int] = {}
        self._handles = [modules[path].register_forward_hook(self._recorder(name)) for name, path in self.paths.items()]

    def _recorder(self, name: str):
        def record(module: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
            if not isinstance(output, torch.Tensor):
                raise TypeError(
                    f"tap '{name}': {self.paths[name]} ({type(module).__name__}) puts out a {type(output).__name__}, "
                    "not a tensor; tap a module inside or after it."
                )
            self._recorded[name], self._versions[name] = output, _version(output)

        return record

    def take(self) -> dict[str, torch.Tensor]:
        """Hand over what the last forward pass recorded, and forget it, so that no graph is kept alive.

        Raises:
            RuntimeError: a tapped module has not run since the last call.
        """
        silent = [name for name in self.paths if name not in self._recorded]
        if silent:
            raise RuntimeError(
                f"tap(s) {', '.join(silent)} recorded nothing: run the network first; if it did run, it never calls "
                f"{', '.join(self.paths[name] for name in silent)}."
            )
        # ReLU(inplace=True) right behind a convolution, say: the features would be those after it, under a wrong name.
        changed = [name for name in self.paths if _version(self._recorded[name]) != self._versions[name]]
        if changed:
            raise ValueError(
                f"tap(s) {', '.join(changed)}: the output of {', '.join(self.paths[name] for name in changed)} was "
                "overwritten by an in-place layer behind it; tap that layer, often the activation that follows."
            )
        recorded, self._recorded = self._recorded, {}
        return {name: recorded[name] for name in self.paths}

    def remove(self) -> None:
        """Take the hooks off the network."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._recorded.clear()


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place; tensors of inference mode do not count it."""
    return 0 if tensor.is_inference() else tensor._version
