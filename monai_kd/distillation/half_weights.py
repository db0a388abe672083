"""Weights of a frozen network in the precision of autocast, converted once instead of in every step."""

from __future__ import annotations

from collections import Counter

import torch
from torch import nn

__all__ = ["HalfWeights"]

# Exactly these classes: autocast converts both of their parameters, and they use them for nothing else.
_CONVERTED = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


class HalfWeights:
    """Call a frozen network under autocast with weights that were converted before.

    Autocast converts the weights of a frozen network in each call, which for a teacher of a hundred million weights is
    a tenth of its time on a CPU. The output has the same bits. The network keeps its own weights; the converted ones
    take half of their memory, and are made again when a weight was changed or moved.

    Args:
        network: frozen, in eval mode.

    Example:
        >>> net = nn.Conv2d(1, 1, 3)
        >>> with torch.no_grad(), torch.autocast("cpu"):
        ...     torch.equal(HalfWeights(net)(torch.ones(1, 1, 4, 4)), net(torch.ones(1, 1, 4, 4)))
        True
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._made_of: list[tuple[int, int, torch.dtype]] | None = None
        self._weights: dict[str, torch.Tensor] = {}

    def __call__(self, image: torch.Tensor) -> object:
        kind = image.device.type
        if not torch.is_autocast_enabled(kind):
            return self.network(image)
        self._refresh(torch.get_autocast_dtype(kind))
        return torch.func.functional_call(self.network, self._weights, (image,))

    def _refresh(self, dtype: torch.dtype) -> None:
        owners = Counter(id(each) for _, each in self.network.named_parameters(remove_duplicate=False))
        found = {
            f"{path}.{name}".lstrip("."): value
            for path, module in self.network.named_modules()
            if type(module) in _CONVERTED
            for name, value in module.named_parameters(recurse=False)
            # A weight that several modules share may be used otherwise too.
            if value.dtype is torch.float32 and owners[id(value)] == 1
        }
        made_of = [(value.data_ptr(), value._version, dtype) for value in found.values()]
        if made_of != self._made_of:
            self._made_of = made_of
            self._weights = {name: value.detach().to(dtype) for name, value in found.items()}
