"""Dice of the student's probabilities with those of the teacher."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import nn

from .probability import activated, activation_of, check_activation, full_precision, same_shape

__all__ = ["SoftDice"]


class SoftDice(nn.Module):
    r"""Dice loss whose target is the teacher's map of probabilities, not a mask.

    .. math::
        \frac{\sum_i | p_{s,i} - p_{t,i} |}{\sum_i (p_{s,i} + p_{t,i}) + \varepsilon},
        \qquad p = \sigma(z) \text{ or } \mathrm{softmax}(z)

    summed over the positions of one image and channel, then the mean over these: MONAI's ``DiceLoss`` with
    ``soft_label``, after Wang et al. 2023, https://arxiv.org/abs/2303.16296. For a target of 0 and 1 it is the usual
    Dice loss; for probabilities, unlike that, it is lowest, 0, where student and teacher are equal.

    The Kullback–Leibler divergence of `LogitKL` is a mean over all positions, in which a small tumour hardly counts;
    this term weighs an image of a small tumour like one of a large one, as the supervised Dice does. There is no
    temperature: softened probabilities of the background would add up to more than the tumour.

    Args:
        activation: "sigmoid" or "softmax", as for `LogitKL`; ``None`` serves one channel.
        batch: whether sums are over all images of the batch, as in `DiceCE`.
        smooth: ε > 0, in positions; an image on which both see nothing has a loss of 0.

    Shape:
        - student, teacher: (B, C, spatial axes …), logits
        - output: scalar

    Raises:
        ValueError: ``smooth`` is not positive, the shapes differ, there are several channels and no ``activation``, or
            one channel and "softmax".

    Example:
        >>> z = torch.zeros(1, 1, 4, 4)  # p is 1/2
        >>> float(SoftDice()(z, z)), round(float(SoftDice()(z + 100, z)), 4)  # |1 - 1/2| / (1 + 1/2)
        (0.0, 0.3333)
    """

    inputs = ("student", "teacher")

    def __init__(self, activation: str | None = None, batch: bool = False, smooth: float = 1e-5) -> None:
        super().__init__()
        if not smooth > 0:
            raise ValueError(f"smooth must be positive, got {smooth}.")
        self.activation = check_activation(activation)
        # With ε above as well, 1 − (2 tp + ε) / (… + ε) is |p_s − p_t| / (… + ε).
        self.dice = DiceLoss(soft_label=True, batch=bool(batch), smooth_nr=float(smooth), smooth_dr=float(smooth))

    def forward(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        same_shape(student, teacher)
        activation = activation_of(student, self.activation)
        return self.dice(*(activated(full_precision(each), activation) for each in (student, teacher)))
