"""A network as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..engines.inferer import mirrored_logits
from ..networks.encoder_features import features_of_passes

__all__ = ["OPSET", "write_onnx"]

OPSET = 18


class _Exported(nn.Module):
    """A network whose logits are averaged over mirror images, and the pooled features of the image itself."""

    def __init__(self, network: nn.Module, mirror: Sequence[int], features: list[torch.Tensor]) -> None:
        super().__init__()
        self.network, self.mirror, self.features = network, tuple(mirror), features

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.features.clear()
        logits = mirrored_logits(self.network, image, self.mirror)
        # The first pass is that of the image as it is.
        return logits, *self.features[:1]


def write_onnx(
    network: nn.Module, shape: Sequence[int], path: Path, mirror: Sequence[int] = (), layers: Sequence[str] = ()
) -> None:
    """Write a network as ONNX, ``image`` (1, *shape) to ``logits``.

    A network of slices has channels last again afterwards.

    Args:
        shape: of an image, (channels, columns, rows), or (channels, X, Y, Z) of the patches of volumes.
        mirror: axes of the slice along which the file averages over mirror images, see `monai_kd.engines.mirrored`.
        layers: modules whose outputs, averaged over the slice, become a second output, ``features`` (1, channels of all
            layers), see `monai_kd.networks.encoder_features.pooled_features`.
    """
    features: list[torch.Tensor] = []
    whole = _Exported(network, mirror, features).eval()
    image = torch.zeros(1, *shape)
    log = logging.getLogger("torch.onnx")
    before = log.level
    try:
        log.setLevel(logging.ERROR)
        with warnings.catch_warnings(), features_of_passes(network, layers, lambda _, found: features.append(found)):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                whole.to(memory_format=torch.contiguous_format),
                (image,),
                path,
                input_names=["image"],
                output_names=["logits", "features"] if layers else ["logits"],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        log.setLevel(before)
        if len(shape) == 3:
            network.to(memory_format=torch.channels_last)
