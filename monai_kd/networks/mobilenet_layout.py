"""Rename weights of MobileNetV2 from torchvision's layout to timm's."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .stages import numbered_blocks

__all__ = ["is_torchvision_mobilenetv2", "mobilenetv2_to_timm_layout"]

_ENDS = {
    **{"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head", "features.18.1": "bn2"},
    "classifier.1": "classifier",
}
# Blocks that expand their channels, and the first block, which does not.
_INVERTED = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
_SEPARABLE = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}


def is_torchvision_mobilenetv2(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether the keys are those of torchvision's MobileNetV2."""
    return "features.1.conv.0.0.weight" in state and "features.18.0.weight" in state


def mobilenetv2_to_timm_layout(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights of torchvision's ``mobilenet_v2`` for timm's ``mobilenetv2_100``.

    torchvision numbers all blocks consecutively; timm groups them in stages, which begin where the channels change.

    Raises:
        ValueError: a key is unknown.
    """
    lasts = {block: f"features.{block}.conv.{1 if block == 1 else 2}.weight" for block in range(1, 18)}
    positions = dict(zip(map(str, lasts), numbered_blocks(len(state[last]) for last in lasts.values()), strict=True))
    renamed = {}
    for key, value in state.items():
        layer, _, what = key.rpartition(".")
        if layer in _ENDS:
            renamed[f"{_ENDS[layer]}.{what}"] = value
            continue
        parts = layer.split(".", 3)
        names = _SEPARABLE if parts[1:2] == ["1"] else _INVERTED
        if len(parts) != 4 or parts[1] not in positions or parts[3] not in names:
            raise ValueError(f"'{key}' is no key of torchvision's MobileNetV2.")
        renamed[f"{positions[parts[1]]}.{names[parts[3]]}.{what}"] = value
    return renamed
