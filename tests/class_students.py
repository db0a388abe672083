"""Segmentation students of three classes whose answer is known, and a slice that shows all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from students import MEAN, SIZE, STD, UNET, brightness_unet, saved

NAMES = ["meningioma", "glioma", "pituitary"]
# Of the slice scaled to 0 … 1: above the first it is of class 1, above the second of class 2 …
THRESHOLDS = (0.575, 0.75, 0.925)
STEEPNESS = 40


def classes_student(folder: Path, activation: str = "softmax", names: list[str] | None = None) -> Path:
    """A U-Net that segments by brightness.

    With a softmax a pixel is of the class of its brightness; with sigmoids the classes are nested: a pixel is of every
    class whose threshold it exceeds.
    """
    names = names or NAMES
    first = 1 if activation == "softmax" else 0
    definition = {**UNET, "out_channels": first + len(names)}
    network = brightness_unet(definition)
    with torch.no_grad():
        for number, threshold in enumerate(THRESHOLDS[: len(names)]):
            # Of a softmax, each channel overtakes the one before it at its threshold.
            before = network.final_conv if first and number else None
            weight, bias = STEEPNESS, -STEEPNESS * (threshold - MEAN) / STD
            network.final_conv.weight[first + number, 0] = weight + (before.weight[number, 0] if before else 0)
            network.final_conv.bias[first + number] = bias + (before.bias[number] if before else 0)
    settings = {
        **{"network_def": definition, "image_size": SIZE, "in_channels": 3, "spatial_dims": 2},
        **{"multiclass": activation == "softmax", "activation": activation, "mask_names": names, "class_names": names},
    }
    return saved(network, folder, settings)


def banded() -> np.ndarray:
    """(X, Y), 0 … 1: a block of each class in the corners, the second the largest, which a flip or a turn changes."""
    image = np.zeros((SIZE, SIZE))
    image[2:8, 3:12] = 0.65
    image[14:30, 4:16] = 0.85
    image[20:27, 20:30] = 1.0
    image[22:24, 22:25] = 0.65  # in the third
    return image


def indices(image: np.ndarray) -> np.ndarray:
    """Of the class of each pixel, without the code under test: 0 … 3."""
    return np.digitize(image, THRESHOLDS)


def nested(image: np.ndarray) -> np.ndarray:
    """(3, …): what is above each threshold."""
    return np.stack([image > threshold for threshold in THRESHOLDS])
