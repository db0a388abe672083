"""Rename weights of EfficientNets from the layout of the EfficientNet-PyTorch package to timm's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from .stages import numbered_blocks

__all__ = ["is_efficientnet_pytorch", "to_timm_layout"]

_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
# Blocks that expand their channels, and the first blocks, which do not.
_INVERTED = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand", "_project_conv": "conv_pwl", "_bn2": "bn3"},
}
_SEPARABLE = {
    **{"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"},
    **{"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"},
}


def is_efficientnet_pytorch(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether the keys are those of EfficientNet-PyTorch."""
    return "_conv_stem.weight" in state and "_fc.weight" in state


def to_timm_layout(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights of an EfficientNet of EfficientNet-PyTorch for timm's model of the same size.

    EfficientNet-PyTorch numbers all blocks consecutively; timm groups them in stages. A stage begins where a block
    can't add its input to its output: where the depthwise convolution has a stride or the channels change. The strides
    are not in the file, but in every EfficientNet the channels change at the beginning of each stage.

    Args:
        state: name to tensor, with the keys ``_conv_stem…``, ``_blocks.<n>…``, ``_conv_head…``, ``_fc…``.

    Raises:
        ValueError: a key is unknown.
    """
    count = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("_blocks."))
    blocks = numbered_blocks(len(state[f"_blocks.{block}._project_conv.weight"]) for block in range(count))
    renamed = {}
    for key, value in state.items():
        found = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(_[a-z0-9_]+)\.(\w+)", key)
        if found is None:
            raise ValueError(f"'{key}' is no key of EfficientNet-PyTorch.")
        block, layer, what = found.groups()
        if block is None:
            names, prefix = _OUTSIDE, ""
        else:
            names = _INVERTED if f"_blocks.{block}._expand_conv.weight" in state else _SEPARABLE
            prefix = f"{blocks[int(block)]}."
        if layer not in names:
            raise ValueError(f"'{key}' is no key of EfficientNet-PyTorch.")
        renamed[f"{prefix}{names[layer]}.{what}"] = value
    return renamed
