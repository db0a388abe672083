"""Time of the augmentation slice by slice, and in batches on the device; see docs/performance.md.

    python docs/experiments/augmentation_time.py DATA

prints the milliseconds that a slice of DATA takes at 256 × 256 until it is on the device as the network gets it: by
nnunet.json, and by nnunet_batch.json in batches of 8, of which the second number is the part on the device. Both in
turn, from a cache in memory, median of the batches; on the CPU, and on a GPU if there is one.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.data.utils import list_data_collate

from monai_kd.bundle import Workflow
from monai_kd.config import literal
from monai_kd.data import CheckedDataset

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "docs" / "experiments"
SIZE, BATCH, SLICES, REPEAT = 256, 8, 80, 5
# The network is built with the training, and not used.
SMALL = {"features": [4, 4, 8, 8, 8, 4], "vit_name": "vit_tiny_patch16_224", "vit_image_size": 32}


def prepared(data: str, folder: str, device: str, *files: str) -> tuple[Any, Callable[[dict], Any]]:
    """The training data set of a config, and what prepares its batches."""
    configs = [ROOT / "bundles" / "seg_teacher" / "configs" / "train.json", *(EXPERIMENTS / file for file in files)]
    given = {"dataset_dir": literal(data), "output_dir": literal(folder), "image_size": SIZE, "device": device}
    workflow = Workflow([str(each) for each in configs], logging_file=False, cache_rate=0.0, **given, **SMALL)
    workflow.initialize()
    found = workflow.parser.get_parsed_content
    dataset = found("train#dataset")
    return CheckedDataset(dataset.data[:SLICES], dataset.transform), found("train#trainer").prepare_batch


def clock(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return 1000 * time.perf_counter() / BATCH


def measure(data: str, device: str) -> tuple[float, float, float]:
    """Milliseconds of a slice: one by one; in batches; and the part of the latter on the device."""
    with tempfile.TemporaryDirectory() as folder:
        slices, prepare = prepared(data, folder, device, "nnunet.json")
        plain, augment = prepared(data, folder, device, "nnunet_batch.json")
    found: list[tuple[float, float, float]] = []
    for _ in range(REPEAT):
        for first in range(0, len(slices) - BATCH + 1, BATCH):
            numbers = range(first, first + BATCH)
            times = [clock(device)]
            prepare(list_data_collate([slices[number] for number in numbers]), device)
            times.append(clock(device))
            batch = list_data_collate([plain[number] for number in numbers])
            times.append(clock(device))
            augment(batch, device)
            times.append(clock(device))
            found.append((times[1] - times[0], times[3] - times[1], times[3] - times[2]))
    one, both, on_device = (statistics.median(column) for column in zip(*found, strict=True))
    return one, both, on_device


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        one, both, on_device = measure(arguments[0], device)
        print(f"{device}: slice by slice {one:.2f}, in batches {both:.2f}, of which on the device {on_device:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
