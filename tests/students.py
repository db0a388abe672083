"""Checkpoints of both students, small, one of them with a known answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from monai_kd.config import build_network
from monai_kd.io.checkpoints import save_checkpoint

SIZE = 32
CLASS_NAMES = ["meningioma", "glioma", "<i>pituitary"]
UNET: dict[str, Any] = {
    **{"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 1},
    **{"features": [4, 4, 4, 4, 4, 4], "act": ["relu", {"inplace": True}], "norm": "batch"},
}
BACKBONE: dict[str, Any] = {
    **{"_target_": "monai_kd.networks.create_backbone", "name": "mobilenetv3_small_050"},
    **{"num_classes": len(CLASS_NAMES), "image_size": SIZE},
}
MEAN, STD = 0.485, 0.229  # of the first channel, as preprocessing normalises it


def brightness_unet(definition: dict[str, Any]) -> Any:
    """A U-Net whose last layer gets the first channel of the image unchanged; all other weights are 0."""
    network: Any = build_network(definition)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if not name.endswith("adn.N.weight"):
                value.zero_()
        for path in (network.conv_0, network.upcat_1.convs):
            for layer in (path.conv_0, path.conv_1):
                layer.conv.weight[0, 0, 1, 1] = 1
    return network


def saved(network: torch.nn.Module, folder: Path, settings: dict[str, Any]) -> Path:
    """Write the network's weights and the settings beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(network.state_dict(), folder / "model.pt")
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder / "model.pt"


def segmentation_student(folder: Path, **settings: Any) -> Path:
    """A U-Net that marks what is brighter than half of the slice's range."""
    network = brightness_unet(UNET)
    with torch.no_grad():
        network.final_conv.weight[0, 0] = 20
        network.final_conv.bias.fill_(-20 * (0.5 - MEAN) / STD)
    values = {"network_def": UNET, "image_size": SIZE, "mask_names": ["tumour"]}
    return saved(network, folder, {**values, **settings})


def classifier_without_tumours(folder: Path) -> Path:
    """A classifier that knows a fourth class, "no tumour", and says it of every slice."""
    definition = {**BACKBONE, "num_classes": len(CLASS_NAMES) + 1}
    network: Any = build_network(definition)
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor([0.0] * len(CLASS_NAMES) + [4.0]))
    names = [*CLASS_NAMES, "no tumour"]
    return saved(network, folder, {"network_def": definition, "image_size": SIZE, "class_names": names})


def classification_student(folder: Path, **settings: Any) -> Path:
    """Random weights, with a last layer that makes slices differ."""
    torch.manual_seed(0)
    network: Any = build_network(BACKBONE)
    with torch.no_grad():
        network.classifier.weight.mul_(40)
    values = {"network_def": BACKBONE, "image_size": SIZE, "class_names": CLASS_NAMES}
    return saved(network, folder, {**values, **settings})
