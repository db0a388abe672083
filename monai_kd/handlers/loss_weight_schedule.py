"""Weights of loss terms that change from epoch to epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ignite.engine import Engine, Events

from ..losses import DistillationLoss
from ..near_names import near_names

__all__ = ["LossWeightSchedule"]


class LossWeightSchedule:
    r"""Multiply the weights of loss terms by factors that depend on the epoch, such as a warm-up of the distillation.

    .. math:: w_k(e) = w_k \, f_k(e), \qquad e = 1 … E

    with :math:`w_k` of the recipe. A factor of 0 leaves the term out of the sum; it is still computed and logged. A run
    that is resumed continues as if it had not stopped, since the factors depend on the epoch alone.

    Args:
        loss: the loss of the training.
        factors: name of a term to :math:`f_k`, a function of the epoch, counted from 1.

    Raises:
        ValueError: the loss has no term of such a name; when an epoch starts: a factor is no number of 0 or more, or
            all weights are 0.

    Example:
        >>> from torch import nn
        >>> loss = DistillationLoss({"ce": nn.CrossEntropyLoss(), "l1": nn.L1Loss()}, {"ce": 1, "l1": 2})
        >>> schedule = LossWeightSchedule(loss, {"l1": lambda epoch: min(1, epoch / 4)})
        >>> schedule.set_epoch(1)
        >>> loss.weights
        {'ce': 1.0, 'l1': 0.5}
    """

    def __init__(self, loss: DistillationLoss, factors: Mapping[str, Callable[[int], float]]) -> None:
        unknown = [f"{name}{near_names(name, loss.weights)}" for name in factors if name not in loss.weights]
        if unknown:
            raise ValueError(f"the loss has no term {', '.join(unknown)}; it has {', '.join(loss.weights)}.")
        self.loss, self.factors, self.weights = loss, dict(factors), dict(loss.weights)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.set_epoch(engine.state.epoch))

    def set_epoch(self, epoch: int) -> None:
        """Set the weights to those of an epoch, counted from 1."""
        weights = dict(self.weights)
        for name, factor in self.factors.items():
            value = float(factor(epoch))
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"the factor of the loss term '{name}' is {value:g} in epoch {epoch}, not 0 or more.")
            weights[name] *= value
        if not any(weights.values()):
            raise ValueError(f"the weights of all loss terms are 0 in epoch {epoch}.")
        self.loss.weights = weights
