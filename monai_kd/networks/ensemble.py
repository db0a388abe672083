"""Several networks as one: an ensemble, to teach or to be used."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .outputs import ACTIVATIONS, main_logits

__all__ = ["Ensemble"]


class Ensemble(nn.Module):
    r"""The mean of the probabilities of several networks, as logits.

    .. math:: z = \sigma^{-1}\Big(\frac{1}{K} \sum_k \sigma(z_k)\Big), \qquad
        z = \log \frac{1}{K} \sum_k \mathrm{softmax}(z_k) + \frac{1}{K} \sum_k \log \sum_c e^{z_{k,c}}

    with a sigmoid, for masks that are independent of each other, and with a softmax. So it is a network like any other:
    a teacher whose logits are softened by a temperature (Hinton et al. 2015, section 5), or one to infer with. Sums are
    taken by logarithms in float32, so that no probability is rounded to 0 or 1. The last term, which a softmax does not
    see, makes the logits of equal networks those of each of them. An ensemble can be traced, not scripted.

    Args:
        networks: K networks of the same input and the same output, see `monai_kd.networks.outputs.main_logits`.
        activation: ``"sigmoid"`` or ``"softmax"``.

    Shape:
        - input: as the networks take it
        - output: as they return it, (B, C, …), logits in float32

    Raises:
        ValueError: there are no networks, or the activation is another one; when called: logits have different shapes.

    Example:
        >>> one, two = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
        >>> image = torch.rand(2, 1, 4, 4)
        >>> mean = (one(image).sigmoid() + two(image).sigmoid()) / 2
        >>> torch.allclose(Ensemble([one, two])(image).sigmoid(), mean)
        True
    """

    def __init__(self, networks: Sequence[nn.Module], activation: str = "sigmoid") -> None:
        super().__init__()
        if not networks:
            raise ValueError("networks: an ensemble has at least one network.")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be {' or '.join(ACTIVATIONS)}, got {activation!r}.")
        self.networks, self.activation = nn.ModuleList(networks), activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = [main_logits(network(x), network, x.ndim).float() for network in self.networks]
        if any(each.shape != logits[0].shape for each in logits):
            shapes = sorted({tuple(each.shape) for each in logits})
            raise ValueError(f"the networks of an ensemble returned logits of different shapes: {shapes}.")
        stacked = torch.stack(logits)
        if self.activation == "softmax":
            offset = torch.logsumexp(stacked, dim=2, keepdim=True).mean(0) - math.log(len(logits))
            return torch.logsumexp(F.log_softmax(stacked, dim=2), dim=0) + offset
        # The logarithm of the mean probability of the mask, less that of the background; the number cancels.
        return torch.logsumexp(_log_sigmoid(stacked), dim=0) - torch.logsumexp(_log_sigmoid(-stacked), dim=0)


def _log_sigmoid(logits: torch.Tensor) -> torch.Tensor:
    # Torch's own is exported to ONNX as the logarithm of a sigmoid, which is infinite below about -18.
    return torch.clamp(logits, max=0) - torch.log1p(torch.exp(-logits.abs()))
