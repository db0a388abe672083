"""An exponential moving average of the weights, which is validated and saved in place of the last weights."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]

# The dictionary of a module that has a tensor, and its name there; of the average, and of the network.
_Place = tuple[dict[str, Any], str]
_Pair = tuple[_Place, _Place]


class WeightAverage:
    r"""Average the weights and buffers of a network over the iterations of a training, as timm's ``ModelEmaV3``.

    .. math:: \bar θ_t = d_t \, \bar θ_{t-1} + (1 - d_t) \, θ_t, \qquad d_t = \min(d, 1 - t^{-3/4})

    The decay rises from 0, so that the random weights of the beginning are soon forgotten. It depends on the number of
    the iteration alone: with the averaged weights in the checkpoint, a resumed run continues exactly.

    Attributes:
        module: the network with averaged weights, in eval mode.

    Args:
        network: the network itself, not its DDP wrapper, on its device.
        decay: d, above 0 and below 1.

    Raises:
        ValueError: ``decay`` is out of range.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 < decay < 1:
            raise ValueError(f"ema must be a number between 0 and 1, such as 0.999, or null, got {decay!r}.")
        self.network = network
        self._average = ModelEmaV3(network, decay=decay, use_warmup=True, warmup_power=3 / 4)
        self._average.requires_grad_(False)
        found = zip(_places(self._average.module), _places(network), network.state_dict().values(), strict=True)
        self._averaged, self._copied = list[_Pair](), list[_Pair]()
        seen = set[int]()
        for ours, theirs, value in found:
            # A tensor may have several names, as in MONAI's DynUNet; in one step, it is averaged once.
            if (own := id(ours[0][ours[1]])) not in seen:
                (self._averaged if value.is_floating_point() else self._copied).append((ours, theirs))
            seen.add(own)

    @property
    def module(self) -> nn.Module:
        return self._average.module

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def begin(self, engine: Engine) -> None:
        """Start from the weights of the network, unless the run is resumed."""
        if engine.state.iteration == 0:
            self.module.load_state_dict(self.network.state_dict())

    @torch.no_grad()
    def update(self, engine: Engine) -> None:
        decay = self._average.get_decay(engine.state.iteration)
        averaged, last = ([owner[name] for owner, name in places] for places in zip(*self._averaged, strict=True))
        get_ema_multi_avg_fn(decay)(averaged, last, None)
        for (ours, name), (theirs, _) in self._copied:
            ours[name].copy_(theirs[name])


def _places(network: nn.Module) -> list[_Place]:
    """Where the tensors of the state dict are, in its order.

    To make a state dict in each step takes longer, on a GPU, than to average it.
    """
    found: dict[str, _Place] = {}
    for prefix, module in network.named_modules(remove_duplicate=False):
        for owner in (module._parameters, module._buffers):
            found.update({f"{prefix}.{name}" if prefix else name: (owner, name) for name in owner})
    return [found[name] for name in network.state_dict()]
