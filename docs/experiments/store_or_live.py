"""From which size of its outputs on a live teacher is quicker than its store; see docs/performance.md.

    python docs/experiments/store_or_live.py FOLDER

fills stores in FOLDER, deletes them again, and prints for each size of an image's outputs the milliseconds that an
image takes in batches of 8 in random order: its hash, reading and stacking, with the files in memory, and with the
files on the disk alone (their pages are given back before each batch). Then the milliseconds of the teachers' forward
passes in bfloat16 at 256 × 256. Random images, median of the batches.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from monai_kd.distillation import TeacherStore
from monai_kd.engines import autocast
from monai_kd.networks import HybridUNet, TimmHybridUNet

SIZE, BATCH, BATCHES = 256, 8, 16
# A slice at full features takes 15.9 MB.
MEGABYTES = (0.13, 0.5, 2.0, 8.0, 16.0)


def milliseconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - began) / BATCH


def reading(folder: Path, megabytes: float) -> tuple[float, float]:
    """Milliseconds of an image from files in memory, and from the disk."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH * BATCHES, 3, SIZE, SIZE, generator=generator)
    logits = torch.zeros(BATCH, 1, SIZE, SIZE, dtype=torch.bfloat16)
    channels = max(0, round((1e6 * megabytes / 2 - SIZE**2) / 64**2))
    features = torch.randn(BATCH, channels, 64, 64, generator=generator).bfloat16()
    outputs = {"d4": features} if channels else {}

    def filled(_images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return logits, outputs

    def read(batch: torch.Tensor) -> None:
        store.answer("teacher", batch, lambda _: sys.exit("an entry is missing"))

    store = TeacherStore(folder)
    for batch in images.split(BATCH):
        store.answer("teacher", batch, filled)
    store.flush()
    os.sync()
    order = [images[each] for each in torch.randperm(len(images), generator=generator).split(BATCH)]
    found = []
    for cold in (False, True):
        times = []
        for batch in order:
            # A store of its own: pages that a process has mapped are not given back.
            store = TeacherStore(folder)
            if cold:
                forget(folder)
            times.append(milliseconds(lambda batch=batch: read(batch)))
        found.append(statistics.median(times))
    return found[0], found[1]


def forget(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def live(network: torch.nn.Module) -> float:
    network = network.eval().to(memory_format=torch.channels_last)
    image = torch.randn(BATCH, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    with torch.no_grad(), autocast(torch.device("cpu"), True):
        return statistics.median(milliseconds(lambda: network(image)) for _ in range(5))


def main(words: list[str]) -> int:
    if len(words) != 1 or words[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(words[0]) / "stores"
    print("MB an image   in memory, ms   from the disk, ms")
    for megabytes in MEGABYTES:
        warm, cold = reading(folder, megabytes)
        print(f"{megabytes:11}   {warm:13.1f}   {cold:17.1f}", flush=True)
        shutil.rmtree(folder)
    hybrid = {"encoder": "tf_efficientnet_lite2", "vit_name": "vit_small_patch14_dinov2", "vit_image_size": 224}
    for name, network in (("118 M, preset full", HybridUNet()), ("28 M, timm_hybrid.json", TimmHybridUNet(**hybrid))):
        print(f"teacher of {name}: {live(network):.0f} ms an image", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
