"""Frozen weights in the precision of autocast, converted once instead of in every call."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import nn

__all__ = ["HalfWeights", "LastHalfWeights"]

logger = logging.getLogger(__name__)

# Exactly these classes: autocast converts both of their parameters, and they use them for nothing else.
_CONVERTED = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


class HalfWeights:
    """Call a network under autocast, without gradients, with frozen weights that were converted before.

    Autocast converts the weights in each call: of a teacher of a hundred million weights, for a tenth of its time on a
    CPU, and on a GPU by two operations a layer, each of which takes as long to launch as the layer. The output has the
    same bits, unless the network reads the weights of a layer otherwise than by calling the layer. The network keeps
    its own weights; the converted ones take half of their memory, and are made again when a weight was changed or
    moved. A change in place by ``weight.data`` is not seen, as a trainer may make it: so weights that require gradients
    are left to autocast. Meanwhile, other threads may call the network only under the same autocast.

    Args:
        network: any. Where gradients are on, without autocast, and if it fails with converted weights, it is called as
            it is.

    Example:
        >>> net = nn.Conv2d(1, 1, 3)
        >>> with torch.no_grad(), torch.autocast("cpu"):
        ...     torch.equal(HalfWeights(net)(torch.ones(1, 1, 4, 4)), net(torch.ones(1, 1, 4, 4)))
        True
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._slots: list[_Slot] = []
        self._dtype: torch.dtype | None = None
        self._fails = False

    def __call__(self, image: torch.Tensor, /, *args: Any, **kwargs: Any) -> Any:
        kind = image.device.type
        if torch.is_grad_enabled() or not torch.is_autocast_enabled(kind):
            return self.network(image, *args, **kwargs)
        dtype = torch.get_autocast_dtype(kind)
        if dtype is not self._dtype or any(slot.changed() for slot in self._slots):
            self._dtype, self._slots, self._fails = dtype, list(self._converted(dtype)), False
        if self._fails:
            return self.network(image, *args, **kwargs)
        try:
            return self._with_halves(image, *args, **kwargs)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # In a region without autocast, for example, weight and image have other types.
            logger.debug("%s fails with converted weights: %s", type(self.network).__name__, error)
        output = self.network(image, *args, **kwargs)
        self._fails = True
        return output

    def _with_halves(self, image: torch.Tensor, /, *args: Any, **kwargs: Any) -> Any:
        # As torch.func.functional_call does, which looks for all weights of the network again in each call.
        slots = self._slots
        try:
            for slot in slots:
                slot.own[slot.name] = slot.half
            return self.network(image, *args, **kwargs)
        finally:
            for slot in slots:
                if slot.own.get(slot.name) is slot.half:
                    slot.own[slot.name] = slot.value

    def _converted(self, dtype: torch.dtype) -> Iterator[_Slot]:
        owners = Counter(id(each) for _, each in self.network.named_parameters(remove_duplicate=False))
        for module in self.network.modules():
            for name, value in module.named_parameters(recurse=False) if type(module) in _CONVERTED else ():
                # A weight that several modules share may be used otherwise too.
                plain = name in ("weight", "bias") and value.dtype is torch.float32 and not value.is_inference()
                if plain and owners[id(value)] == 1:
                    half = value if value.requires_grad else cast(nn.Parameter, value.to(dtype))
                    yield _Slot(module._parameters, name, value, half, value.detach(), value._version)


class LastHalfWeights:
    """Call networks by their `HalfWeights`, which are kept of the network that was called last.

    Example:
        >>> net = nn.Conv2d(1, 1, 1)
        >>> with torch.no_grad(), torch.autocast("cpu"):
        ...     LastHalfWeights()(net, torch.ones(1, 1, 2, 2)).dtype
        torch.bfloat16
    """

    def __init__(self) -> None:
        self._last: HalfWeights | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy or pickle of an inferer holds no network.
        return {"_last": None}

    def __call__(self, network: Callable[..., Any], image: torch.Tensor, /, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(network, nn.Module):
            return network(image, *args, **kwargs)
        last = self._last
        if last is None or last.network is not network:
            last = self._last = HalfWeights(network)
        return last(image, *args, **kwargs)


class _Slot(NamedTuple):
    """A weight, its converted values, or itself while it requires gradients, and where its module holds it."""

    own: dict[str, nn.Parameter | None]
    name: str
    value: nn.Parameter
    half: nn.Parameter
    # Keeps the memory that was converted, so that no other values get its address.
    converted: torch.Tensor
    version: int

    def changed(self) -> bool:
        value = self.own.get(self.name)
        if value is None or value is not self.value:
            return value is not self.half  # which another thread put there
        if value.requires_grad:
            return self.half is not value
        moved = value.data_ptr() != self.converted.data_ptr()
        return self.half is value or moved or value._version != self.version
