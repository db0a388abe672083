"""Rename weights of VGGs from torchvision's layout to timm's."""

from __future__ import annotations

from collections.abc import Mapping

import torch

__all__ = ["is_torchvision_vgg", "vgg_to_timm_layout"]

_LINEAR = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}


def is_torchvision_vgg(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether the keys are those of torchvision's VGG."""
    return "features.0.weight" in state and "classifier.6.weight" in state


def vgg_to_timm_layout(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights of a VGG of torchvision for timm's model of the same name.

    timm's first two linear layers are convolutions, over 7×7 and 1×1 positions.
    """
    renamed = {}
    for key, value in state.items():
        layer, _, what = key.rpartition(".")
        if what == "weight" and layer in ("classifier.0", "classifier.3"):
            side = 7 if layer == "classifier.0" else 1
            value = value.reshape(len(value), -1, side, side)
        renamed[f"{_LINEAR.get(layer, layer)}.{what}"] = value
    return renamed
