"""Slices of a folder as a network gets them, to calibrate and to check an exported network with."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import torch
from monai.utils.enums import CommonKeys as Keys

from data_prep.text import printable

from ..inference import BundlePredictor, InputFiles, UnreadableImage
from ..inference.preparation import Preparation

__all__ = ["network_inputs"]

logger = logging.getLogger(__name__)


def network_inputs(predictor: BundlePredictor, source: Path, most: int) -> list[np.ndarray]:
    """Inputs of a bundle's network for the slices of a file or folder, evenly chosen over its files.

    Args:
        predictor: has the preprocessing.
        source: a slice, a volume, or a folder of them, as for inference; files that can't be used are logged.
        most: the largest number of slices; of a volume, one slice in the middle and the others around it count.

    Returns:
        float32 arrays (1, C, H, W).

    Raises:
        FileNotFoundError, ValueError: there is no such folder, or no slice in it can be used.
    """
    # Nothing is written there; masks would be.
    images = InputFiles(source, Path(tempfile.gettempdir()) / "monai_kd_no_output").images
    chosen = [images[index] for index in np.unique(np.linspace(0, len(images) - 1, most).round().astype(int))]
    prepare = Preparation(predictor.value("preprocessing"))
    inputs: list[np.ndarray] = []
    per_file = -(-most // len(chosen))
    for image in chosen:
        paths = [str(path) for path in image.paths]
        try:
            read = prepare.read(paths[0] if len(paths) == 1 else paths)
        except UnreadableImage as error:
            logger.warning("%s is not used: %s", printable(image.label), printable(error.reason))
            continue
        prepared = prepare({Keys.IMAGE: paths[0]}, read.pixels, read.meta())[Keys.IMAGE]
        array = np.asarray(torch.as_tensor(prepared), dtype=np.float32)
        slices = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
        inputs += [slices[index : index + 1].copy() for index in _middle(len(slices), per_file)]
    if not inputs:
        raise ValueError(f"no slice in {source} can be used.")
    return inputs[:most]


def _middle(slices: int, most: int) -> range:
    first = max(0, (slices - most) // 2)
    return range(first, min(slices, first + most))
