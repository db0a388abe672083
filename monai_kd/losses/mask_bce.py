"""Binary cross-entropy of masks, where each channel is a mask of its own."""

from __future__ import annotations

from torch import nn

from .probability import check_activation

__all__ = ["MaskBCE"]


class MaskBCE(nn.BCEWithLogitsLoss):
    r"""Binary cross-entropy between the probabilities of masks and the label, mean over all pixels.

    .. math:: -\mathrm{mean}\,\bigl(y \log \sigma(z) + (1 - y) \log (1 - \sigma(z))\bigr)

    Args:
        activation: "sigmoid" or ``None``.

    Shape:
        - student, label: (B, C, spatial axes …), logits and 0 or 1
        - output: scalar

    Raises:
        ValueError: ``activation`` is "softmax", whose label is a class number.

    Example:
        >>> import torch
        >>> MaskBCE()(torch.zeros(1, 1, 2), torch.ones(1, 1, 2))  # ln 2
        tensor(0.6931)
    """

    inputs = ("student", "label")

    def __init__(self, activation: str | None = None) -> None:
        super().__init__()
        if check_activation(activation) == "softmax":
            raise ValueError(
                "binary cross-entropy (the term 'bce' of the recipes 'basic' and 'basic_pooled') is for one mask, or "
                "for masks that may overlap, not for a softmax over classes: take a recipe with 'supervised', such as "
                "kd_plus_plus, or leave multiclass at False."
            )
