"""Named intermediate outputs of a network, recorded by forward hooks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..near_names import near_names

__all__ = ["FeatureTaps"]


class FeatureTaps:
    """Record the outputs of named submodules of a network, without changing the network.

    It works on the bare network also when that is called through ``DistributedDataParallel`` or ``torch.compile``,
    which run the same submodules; nothing is added to its state dict.

    Args:
        network: the network whose submodules are recorded.
        paths: name to module path, such as ``{"d4": "upcat_4"}``, paths as in ``network.named_modules()``.

    Raises:
        ValueError: a path does not exist in the network; the message lists the nearest existing ones. From `take`: a
            recorded output has been changed in place since, which is not noticed of a compiled network.
        TypeError: when the network runs: a tapped module returns something other than a tensor.
        RuntimeError: from `take`: nothing was recorded, or it was recorded without gradients of a trained module.

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
                raise ValueError(
                    f"tap '{name}': {type(network).__name__} has no module '{path}'"
                    f"{near_names(path, modules, most=4, cutoff=0.3)}."
                )
        self.paths = dict(paths)
        self._recorded: dict[str, torch.Tensor] = {}
        # With all names from the start: for torch.compile, another set of keys is another network.
        self._versions: dict[str, int | None] = dict.fromkeys(self.paths)
        # Whether gradients were on when the network was called, and which tapped modules ran with gradients off.
        self._gradients = False
        self._taken = False
        self._off = dict.fromkeys(self.paths, False)
        self._around = {name: _with_parameters(modules, path) for name, path in self.paths.items()}
        self._handles = [modules[path].register_forward_hook(self._recorder(name)) for name, path in self.paths.items()]
        if self.paths:
            self._handles.append(network.register_forward_pre_hook(self._beginner()))

    def _beginner(self):
        # A closure, as in `_recorder`: a copy of the network would copy a bound method with all recorded tensors.
        def begin(_network: nn.Module, _inputs: tuple) -> None:
            # What a call left that nobody took, as in validation, would make torch.compile trace the network again.
            self._gradients, self._taken, self._recorded = torch.is_grad_enabled(), False, {}

        return begin

    def _recorder(self, name: str):
        def record(module: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
            if not isinstance(output, torch.Tensor):
                raise TypeError(
                    f"tap '{name}': {self.paths[name]} ({type(module).__name__}) returns a {type(output).__name__}, "
                    "not a tensor; tap a module inside or after it."
                )
            if self._taken:
                # Activation checkpointing runs the module again in the backward pass, after `take`.
                return
            self._recorded[name], self._off[name] = output, not torch.is_grad_enabled()
            # Asked for it, torch.compile would end one graph and begin another.
            self._versions[name] = None if torch.compiler.is_compiling() else _version(output)

        return record

    def take(self, gradients: bool | None = None) -> dict[str, torch.Tensor]:
        """Return the outputs of the last forward pass, and drop them here, so that no graph is kept alive.

        Args:
            gradients: whether gradients are needed; ``None``: if they were on when the network was called.

        Raises:
            RuntimeError: a tapped module has not run since the last call; or it ran with gradients off, although they
                are needed and it has trained parameters.
        """
        silent = [name for name in self.paths if name not in self._recorded]
        if silent:
            raise RuntimeError(
                f"tap(s) {', '.join(silent)} recorded nothing: run the network first; if it did run, it never calls "
                f"{', '.join(self.paths[name] for name in silent)}."
            )
        # For example by a ReLU(inplace=True) after a convolution: the features would be those after the activation.
        changed = [name for name in self.paths if self._versions[name] not in (None, _version(self._recorded[name]))]
        if changed:
            raise ValueError(
                f"tap(s) {', '.join(changed)}: the output of {', '.join(self.paths[name] for name in changed)} was "
                "overwritten by an in-place layer behind it; tap that layer, often the activation that follows."
            )
        wanted = self._gradients if gradients is None else gradients
        detached = [name for name in self.paths if wanted and self._off[name] and self._is_trained(name)]
        if detached:
            raise RuntimeError(
                f"tap(s) {', '.join(detached)}: {', '.join(self.paths[name] for name in detached)} ran with gradients "
                "off, so that no loss on the features would reach the network. Under torch.utils.checkpoint, pass "
                "use_reentrant=False; inside torch.no_grad(), freeze the layer by requires_grad_(False)."
            )
        recorded, self._recorded, self._taken = self._recorded, {}, True
        return {name: recorded[name] for name in self.paths}

    def _is_trained(self, name: str) -> bool:
        return any(parameter.requires_grad for parameter in self._around[name].parameters())

    def remove(self) -> None:
        """Remove the hooks from the network."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._recorded.clear()


def _with_parameters(modules: dict[str, nn.Module], path: str) -> nn.Module:
    """The module, or the nearest one around it that has parameters: an activation has none."""
    while path and not any(True for _ in modules[path].parameters()):
        path = path.rpartition(".")[0]
    return modules[path]


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place; tensors of inference mode do not count it."""
    return 0 if tensor.is_inference() else tensor._version
