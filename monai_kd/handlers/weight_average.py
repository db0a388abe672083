"""An exponential moving average of the weights, which is validated and saved in place of the last weights."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    r"""Average the weights and buffers of a network over the iterations of a training, by timm's ``ModelEmaV3``.

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

    @property
    def module(self) -> nn.Module:
        return self._average.module

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.EPOCH_STARTED, self.find)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)

    def begin(self, engine: Engine) -> None:
        """Start from the weights of the network, unless the run is resumed."""
        if engine.state.iteration == 0:
            self.module.load_state_dict(self.network.state_dict())

    def find(self) -> None:
        """Find the tensors once an epoch: on a GPU, to list them takes longer than to average them."""
        pairs = list(zip(self.module.state_dict().values(), self.network.state_dict().values(), strict=True))
        self._averaged = [[pair[place] for pair in pairs if pair[0].is_floating_point()] for place in (0, 1)]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, engine: Engine) -> None:
        decay = self._average.get_decay(engine.state.iteration)
        get_ema_multi_avg_fn(decay)(*self._averaged, None)
        for average, last in self._copied:
            average.copy_(last)
