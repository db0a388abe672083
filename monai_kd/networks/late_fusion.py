"""Several backbones fused by one linear layer: the classification teacher."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .backbone import classifier_of, create_backbone, published

__all__ = ["LateFusionClassifier"]

logger = logging.getLogger(__name__)


class LateFusionClassifier(nn.Module):
    r"""Backbones side by side, each with logits of all classes, fused by one linear layer.

    .. math:: z = W \, [z_1, …, z_K] + b, \qquad z_k = \mathrm{backbone}_k(\mathrm{resize}_k(x))

    ``["vgg19", "vit_base_patch16_224"]`` is a hybrid teacher, ``["vgg19", "vgg19"]`` and ``["vit_base_patch16_224",
    "vit_base_patch16_224"]`` are dual ones. Modules for taps are ``backbones.<k>.…``.

    Args:
        backbones: for each backbone its name (see `create_backbone`); or a mapping with ``name`` and, as needed,
            ``image_size`` (side of its square input, in pixels; by default the size that its published weights were
            trained with), ``pretrained``, ``freeze``, and arguments of the model itself.
        num_classes: C.
        pretrained: ``False``, ``True`` (downloaded) or a local file, for all backbones without a value of their own.
        freeze: train only the last layer of each backbone, and the fusion; all other layers keep their weights and stay
            in eval mode.

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
                # MONAI's command line turns false into the text 'false', which would freeze.
                raise ValueError(f"backbones[{number}]: freeze must be True or False, got {frozen!r}.")
            name, size = entry.pop("name"), entry.pop("image_size", None)
            size = int(published(name).input_size[-1] if size is None else size)
            network = create_backbone(name, weights, num_classes, image_size=size, **entry)
            if frozen:
                _freeze(network, number)
                if weights is False or weights is None:
                    logger.warning("backbones[%d], %s, is frozen with RANDOM weights.", number, name)
            self.backbones.append(network)
            sizes.append(size)
            all_frozen.append(frozen)
        # Assigned as complete lists, because TorchScript infers their types from the values.
        self.image_sizes, self._frozen = sizes, all_frozen
        self.fusion = nn.Linear(len(self.backbones) * num_classes, num_classes)

    def train(self, mode: bool = True) -> LateFusionClassifier:
        super().train(mode)
        for network, frozen in zip(self.backbones, self._frozen, strict=True):
            if frozen:
                # BatchNorm statistics and dropout are frozen too.
                network.eval()
        return self

    def last_convolution(self, number: int = 0) -> str:
        """Path, for a tap, of the output of a backbone's last convolution, after its normalisation and activation.

        Args:
            number: of the backbone, which must be a VGG, with its convolutions in a flat ``features``.

        Raises:
            ValueError: the backbone is no VGG.

        Example:
            >>> LateFusionClassifier([{"name": "vgg11", "image_size": 32, "mlp_ratio": 0.03125}], 3).last_convolution()
            'backbones.0.features.19'
        """
        features = getattr(self.backbones[number], "features", None)
        layers = list(features) if isinstance(features, nn.Sequential) else []
        convolutions = [position for position, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
        if not convolutions or any(True for layer in layers for _ in layer.children()):
            raise ValueError(
                f"backbones[{number}] ({type(self.backbones[number]).__name__}) is no VGG: set taps, or teacher_taps "
                "of a student, to the module whose features are compared."
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


def _freeze(network: nn.Module, number: int) -> None:
    try:
        last = classifier_of(network)
    except ValueError as error:
        raise ValueError(f"backbones[{number}] can't be frozen up to its last layer: {error}") from error
    network.requires_grad_(False)
    last.requires_grad_(True)
