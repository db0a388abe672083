"""A network as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..engines.inferer import mirrored
from ..networks.outputs import main_logits

__all__ = ["OPSET", "write_onnx"]

OPSET = 18


class _Mirrored(nn.Module):
    """A network whose logits are averaged over mirror images."""

    def __init__(self, network: nn.Module, mirror: Sequence[int]) -> None:
        super().__init__()
        self.network, self.mirror = network, tuple(mirror)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return mirrored(image, lambda seen: main_logits(self.network(seen), self.network, seen.ndim), self.mirror)


def write_onnx(network: nn.Module, image_size: int, path: Path, mirror: Sequence[int] = ()) -> None:
    """Write a network of three-channel images as ONNX, ``image`` (1, 3, image_size, image_size) to ``logits``.

    The network has channels last again afterwards.

    Args:
        mirror: axes of the slice along which the file averages over mirror images, see `monai_kd.engines.mirrored`.
    """
    whole = _Mirrored(network, mirror).eval() if mirror else network
    image = torch.zeros(1, 3, image_size, image_size)
    log = logging.getLogger("torch.onnx")
    before = log.level
    try:
        log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                whole.to(memory_format=torch.contiguous_format),
                (image,),
                path,
                input_names=["image"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        log.setLevel(before)
        network.to(memory_format=torch.channels_last)
