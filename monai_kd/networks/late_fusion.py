"""Several backbones that vote by one linear layer: the classification teacher."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import nn

from .backbone import classifier_of, create_backbone

__all__ = ["LateFusionClassifier"]

logger = logging.getLogger(__name__)


class LateFusionClassifier(nn.Module):
    r"""Backbones side by side, each giving logits of all classes, fused by one linear layer.

    .. math:: z = W \, [z_1, …, z_K] + b, \qquad z_k = \mathrm{backbone}_k(\mathrm{resize}_k(x))

    ``["vgg19", "vit_base_patch16_224"]`` is the hybrid teacher of the report, ``["vgg19", "vgg19"]`` and
    ``["vit_base_patch16_224", "vit_base_patch16_224"]`` its dual ones. Modules for taps are ``backbones.<k>.…``.

    Args:
        backbones: for each its name (see `create_backbone`); or a mapping with ``name`` and, as needed,
            ``image_size`` (side of the square that it sees, in pixels; the size its weights were made for when not
            given), ``pretrained``, ``freeze``, and arguments of the model itself.
        num_classes: C.
        pretrained: ``False``, ``True`` (downloaded) or a local file, for all backbones that don't say themselves.
        freeze: train only the last layer of each backbone, and the fusion; the rest stays as loaded, in eval mode.
        bare: leave out every ``pretrained`` and ``freeze``: a checkpoint is loaded next, and the files that its
            training began with need not be there.

    Shape:
        - input: (B, 3, H, W)
        - output: (B, C), logits

    Raises:
        ValueError: there are no backbones, fewer than two classes, or a backbone is not described as above.

    Example:
        >>> small = {"name": "vit_tiny_patch16_224", "image_size": 32}
        >>> LateFusionClassifier([small, small], num_classes=3)(torch.zeros(2, 3, 40, 40)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        backbones: Sequence[str | Mapping[str, Any]],
        num_classes: int,
        pretrained: bool | str = False,
        freeze: bool = False,
        bare: bool = False,
    ) -> None:
        super().__init__()
        if isinstance(backbones, str) or not backbones:
            raise ValueError(f"backbones must be a list of at least one name, got {backbones!r}.")
        if num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more, got {num_classes}.")
        self.backbones = nn.ModuleList()
        sizes, all_frozen = [], []
        for number, described in enumerate(backbones):
            entry = dict(described) if isinstance(described, Mapping) else {"name": described}
            if not isinstance(entry.get("name"), str):
                raise ValueError(f"backbones[{number}] must be a name, or a mapping with a name, got {described!r}.")
            weights, frozen = entry.pop("pretrained", pretrained), entry.pop("freeze", freeze)
            if not isinstance(frozen, bool):
                # The text 'false', which MONAI's command line makes of false, would freeze.
                raise ValueError(f"backbones[{number}]: freeze must be True or False, got {frozen!r}.")
            if bare:
                weights, frozen = False, False
            name, size = entry.pop("name"), entry.pop("image_size", None)
            size = _native_size(name) if size is None else int(size)
            network = create_backbone(name, weights, num_classes, image_size=size, **entry)
            if frozen:
                _freeze(network, number)
                if weights is False or weights is None:
                    logger.warning("backbones[%d], %s, is frozen with RANDOM weights.", number, name)
            self.backbones.append(network)
            sizes.append(size)
            all_frozen.append(frozen)
        # Assigned whole: TorchScript reads the types off the values.
        self.image_sizes, self._frozen = sizes, all_frozen
        self.fusion = nn.Linear(len(self.backbones) * num_classes, num_classes)

    def train(self, mode: bool = True) -> LateFusionClassifier:
        super().train(mode)
        for network, frozen in zip(self.backbones, self._frozen, strict=True):
            if frozen:
                # BatchNorm statistics and dropout belong to what is frozen.
                network.eval()
        return self

    def last_convolution(self, number: int = 0) -> str:
        """Path, for a tap, of what the last convolution of a backbone gives, after its normalisation and activation.

        Args:
            number: of the backbone, a VGG: one that has its convolutions in a flat ``features``.

        Raises:
            ValueError: the backbone is built otherwise.

        Example:
            >>> LateFusionClassifier([{"name": "vgg11", "image_size": 32, "mlp_ratio": 0.03125}], 3).last_convolution()
            'backbones.0.features.19'
        """
        features = getattr(self.backbones[number], "features", None)
        layers = list(features) if isinstance(features, nn.Sequential) else []
        convolutions = [position for position, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
        if not convolutions or any(True for layer in layers for _ in layer.children()):
            raise ValueError(
                f"backbones[{number}] ({type(self.backbones[number]).__name__}) is no VGG: which of its modules to "
                "compare features with must be said by teacher_taps."
            )
        last = convolutions[-1]
        while last + 1 < len(layers) and not isinstance(layers[last + 1], nn.MaxPool2d):
            last += 1
        return f"backbones.{number}.features.{last}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = []
        for number, network in enumerate(self.backbones):
            seen, size = x, self.image_sizes[number]
            if x.shape[2] != size or x.shape[3] != size:
                seen = F.interpolate(x, size=[size, size], mode="bilinear", align_corners=False)
            logits.append(network(seen))
        return self.fusion(torch.cat(logits, dim=1))


def _native_size(name: str) -> int:
    """The side of the images that the weights of a model were made for."""
    config = timm.get_pretrained_cfg(name, allow_unregistered=True) if timm.is_model(name) else None
    return 224 if config is None else int(config.input_size[-1])


def _freeze(network: nn.Module, number: int) -> None:
    try:
        last = classifier_of(network)
    except ValueError as error:
        raise ValueError(f"backbones[{number}] can't be frozen up to its last layer: {error}") from error
    network.requires_grad_(False)
    last.requires_grad_(True)
