"""A network as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..engines.inferer import mirrored
from ..networks.class_outputs import class_logits, log_odds_of_others, returning_classes
from ..networks.encoder_features import features_of_passes
from ..networks.outputs import main_logits

__all__ = ["OPSET", "write_onnx"]

OPSET = 18


class _Exported(nn.Module):
    """Outputs of a network for an image: see `write_onnx`."""

    def __init__(
        self, network: nn.Module, mirror: Sequence[int], features: list[torch.Tensor], own_classes: bool
    ) -> None:
        super().__init__()
        self.network, self.mirror, self.features, self.own_classes = network, tuple(mirror), features, own_classes

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.features.clear()
        classes: list[torch.Tensor] = []

        def logits(seen: torch.Tensor) -> torch.Tensor:
            output = self.network(seen)
            if self.own_classes and (found := class_logits(output)) is not None:
                classes.append(found)
            return main_logits(output, self.network, seen.ndim)

        found = mirrored(image, logits, self.mirror)
        # The first pass is that of the image as it is.
        return found, *self.features[:1], *([_log_odds(classes)] if classes else [])


def _log_odds(classes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of a tumour, by logits of all mirror images whose last class is "no tumour"."""
    logits = torch.stack(list(classes)).mean(dim=0)
    return log_odds_of_others(logits, logits.shape[1] - 1)


def write_onnx(
    network: nn.Module,
    shape: Sequence[int],
    path: Path,
    mirror: Sequence[int] = (),
    layers: Sequence[str] = (),
    own_classes: bool = False,
) -> None:
    """Write a network as ONNX, ``image`` (1, *shape) to ``logits``.

    A network of slices has channels last again afterwards.

    Args:
        shape: of an image, (channels, columns, rows), or (channels, X, Y, Z) of the patches of volumes.
        mirror: axes of the slice along which the file averages over mirror images, see `monai_kd.engines.mirrored`.
        layers: modules whose outputs, averaged over the slice, become a second output, ``features`` (1, channels of all
            layers), see `monai_kd.networks.encoder_features.pooled_features`.
        own_classes: whether the log-odds of a tumour, by the classes of a segmentation, become the last output,
            ``log_odds`` (1, 1), see `monai_kd.inference.own_classes.OwnClasses`.
    """
    features: list[torch.Tensor] = []
    whole = _Exported(network, mirror, features, own_classes).eval()
    image = torch.zeros(1, *shape)
    log = logging.getLogger("torch.onnx")
    before = log.level
    try:
        log.setLevel(logging.ERROR)
        with (
            warnings.catch_warnings(),
            returning_classes(network),
            features_of_passes(network, layers, lambda _, found: features.append(found)),
        ):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                whole.to(memory_format=torch.contiguous_format),
                (image,),
                path,
                input_names=["image"],
                output_names=["logits", *(["features"] if layers else []), *(["log_odds"] if own_classes else [])],
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        log.setLevel(before)
        if len(shape) == 3:
            network.to(memory_format=torch.channels_last)
