"""Slices of a folder as a network gets them, to calibrate and to check an exported network with."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import torch
from monai.utils.enums import CommonKeys as Keys

from data_prep.text import printable

from ..inference import BundlePredictor, InputFiles, ReadableDataset

__all__ = ["network_inputs"]

logger = logging.getLogger(__name__)


def calibration_files(source: Path | str) -> InputFiles:
    """The files of a file or folder, as for inference.

    Raises:
        FileNotFoundError, ValueError: there are none.
    """
    # Nothing is written there; masks would be.
    files = InputFiles(Path(source), Path(tempfile.gettempdir()) / "monai_kd_no_output")
    len(files.images)
    return files


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
    files = calibration_files(source)
    chosen = [files[index] for index in np.unique(np.linspace(0, len(files) - 1, most).round().astype(int))]
    inputs: list[np.ndarray] = []
    per_file = -(-most // len(chosen))
    dataset = ReadableDataset(chosen, predictor.value("preprocessing"))
    for number in range(len(dataset)):
        item = dataset[number]
        if Keys.IMAGE not in item:
            logger.warning("%s is not used: %s", printable(item["file"]), printable(item["reason"]))
            continue
        array = np.asarray(torch.as_tensor(item[Keys.IMAGE]), dtype=np.float32)
        slices = np.moveaxis(array, -1, 0) if array.ndim == 4 else array[None]
        inputs += [slices[index : index + 1].copy() for index in _middle(len(slices), per_file)]
    if not inputs:
        raise ValueError(f"no slice in {source} can be used.")
    return inputs[:most]


def _middle(slices: int, most: int) -> range:
    first = max(0, (slices - most) // 2)
    return range(first, min(slices, first + most))
