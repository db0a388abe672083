"""What a loss was made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

__all__ = ["LossReport"]


@dataclass
class LossReport:
    """The values of a `monai_kd.losses.DistillationLoss` for one batch.

    Attributes:
        total: the scalar to minimise, with its graph.
        terms: term name to its value before weighting, detached.
        weighted: term name to weight × value, detached; they add up to ``total``.
        undefined: names of the terms that need a label, of a batch in which no item has one. Their value is 0.
    """

    total: torch.Tensor
    terms: dict[str, torch.Tensor] = field(default_factory=dict)
    weighted: dict[str, torch.Tensor] = field(default_factory=dict)
    undefined: tuple[str, ...] = ()
