"""From logits to masks and probabilities, for metrics."""

from __future__ import annotations

from collections.abc import Callable

from monai.transforms import Activationsd, AsDiscreted, Compose, Lambdad

from ..networks.outputs import ACTIVATIONS

__all__ = ["ACTIVATIONS", "class_postprocessing", "mask_postprocessing"]


def mask_postprocessing(activation: str, channels: int = 1, threshold: float = 0.5) -> Compose:
    """Transforms from logits to masks, for metrics during training.

    Args:
        activation: ``"sigmoid"``: each channel is a mask of its own. ``"softmax"``: the channels are mutually
            exclusive, and the first one is the background.
        channels: number of channels of the logits, C.
        threshold: on the probability, for ``"sigmoid"``.

    Shape:
        - pred: (C, spatial axes …), logits; becomes masks of the same shape, 0 or 1
        - label: (C, …) masks for ``"sigmoid"``; class indices (1, …) for ``"softmax"``, which become (C, …) masks

    Raises:
        ValueError: ``activation`` is neither.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be {' or '.join(ACTIVATIONS)}, got {activation!r}.")
    if activation == "sigmoid":
        return Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=threshold)])
    return Compose([AsDiscreted("pred", argmax=True, to_onehot=channels), AsDiscreted("label", to_onehot=channels)])


def class_postprocessing(mixup: bool = False) -> Compose:
    """Transforms from logits (C,) to probabilities, for metrics during training.

    Args:
        mixup: whether labels are mixed probabilities (C,), of which the most probable class is taken.
    """
    steps: list[Callable] = [Activationsd("pred", softmax=True)]
    if mixup:
        steps.append(Lambdad("label", lambda label: int(label.argmax())))
    return Compose(steps)
