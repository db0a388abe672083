"""A network as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

__all__ = ["OPSET", "write_onnx"]

OPSET = 18


def write_onnx(network: nn.Module, image_size: int, path: Path) -> None:
    """Write a network of three-channel images as ONNX, ``image`` (1, 3, image_size, image_size) to ``logits``.

    The network has channels last again afterwards.
    """
    image = torch.zeros(1, 3, image_size, image_size)
    log = logging.getLogger("torch.onnx")
    before = log.level
    try:
        log.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network.to(memory_format=torch.contiguous_format),
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
