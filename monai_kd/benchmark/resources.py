"""Memory and time of teachers and students, in training and in inference."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import build_network, default_device, keep_freed_memory
from ..engines import autocast
from .options import Options
from .row import Row
from .timing import wait_for

__all__ = ["rows"]

logger = logging.getLogger(__name__)

# Linux: 5 resets the peak of a process's memory, see proc(5).
PEAK = Path("/proc/self/clear_refs")
PAGE = 4096 / 1e6
BATCH, TINY_SIZE = 8, 32
SIZES = {"segmentation": 256, "classification": 224}
ACT = ["relu", {"inplace": True}]
# Those of the bundles at their full widths, without pretrained weights, and the networks that the repository carries.
NETWORKS: dict[str, dict[str, dict[str, Any]]] = {
    "segmentation": {
        "teacher, U-Net + ViT-B/16": {
            **{"_target_": "monai_kd.networks.HybridUNet", "vit_name": "vit_base_patch16_224"},
            **{"features": [64, 128, 256, 512, 1024, 64]},
        },
        "student, U-Net": {
            **{"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 1, "norm": "batch"},
            **{"features": [32, 64, 128, 256, 512, 32], "act": ACT},
        },
        "student, U-Net on EfficientNet-Lite0": {
            **{"_target_": "monai_kd.networks.TimmUNet", "in_channels": 3, "out_channels": 1},
            **{"encoder": "tf_efficientnet_lite0", "features": [96, 64, 48, 32, 16]},
        },
    },
    "classification": {
        "teacher, VGG19 + ViT-B/16": {
            "_target_": "monai_kd.networks.LateFusionClassifier",
            **{"backbones": ["vgg19", "vit_base_patch16_224"], "num_classes": 3},
        },
        "student, EfficientNet-B0": {
            **{"_target_": "monai_kd.networks.create_backbone", "name": "efficientnet_b0"},
            **{"num_classes": 3, "image_size": SIZES["classification"]},
        },
        "student, EfficientNet-Lite0": {
            **{"_target_": "monai_kd.networks.create_backbone", "name": "tf_efficientnet_lite0"},
            **{"num_classes": 3, "image_size": SIZES["classification"]},
        },
    },
}
TINY_NETWORKS: dict[str, dict[str, dict[str, Any]]] = {
    "classification": {
        f"{kind}, tiny": {
            **{"_target_": "monai_kd.networks.create_backbone", "name": name},
            **{"num_classes": 3, "image_size": TINY_SIZE},
        }
        for kind, name in (("teacher", "test_resnet"), ("student", "test_efficientnet"))
    },
}


def rows(options: Options) -> Iterator[Row]:
    """The teacher divided by each student: time and memory of a training step and of one slice.

    A training step is that of a batch of 8 under bfloat16 autocast, with AdamW and without a teacher; inference is of
    one slice in float32. Each network has a process of its own, one after the other. Its memory is the most that the
    process has in such steps, above what it had before the network was built, or on a GPU the most that torch had
    allocated.

    Args:
        options: ``repeat`` and ``tiny`` are used.
    """
    if default_device() == "cpu" and not os.access(PEAK, os.W_OK):
        logger.warning("memory can't be measured on this system: the rows of memory and time are left out.")
        return
    # Not forked: the memory of this process would be the new one's too.
    processes = multiprocessing.get_context("spawn")
    for task, networks in (TINY_NETWORKS if options.tiny else NETWORKS).items():
        size = TINY_SIZE if options.tiny else SIZES[task]
        for training in (True, False):
            found = {}
            for name, definition in networks.items():
                with processes.Pool(1) as pool:
                    given = (definition, size, training, options.repeat, torch.get_num_threads())
                    found[name] = pool.apply(_measured, given)
            what = f"a training step of {BATCH} slices" if training else "the inference of a slice"
            teacher, *students = found
            for student in students:
                for place, unit in enumerate(("ms", "MB")):
                    pair = {name: found[name][place] for name in (teacher, student)}
                    name = f"{task}, {'time' if unit == 'ms' else 'memory'} of {what}: teacher ÷ {student}"
                    yield Row(name, "measured", pair[teacher] / pair[student], pair, unit)


def _measured(
    definition: Mapping[str, Any], size: int, training: bool, repeat: int, threads: int
) -> tuple[float, float]:
    """Median milliseconds, and megabytes, in a process of its own."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = torch.device(default_device())
    before = _resident(device, reset=True)
    network = build_network(definition).to(device).to(memory_format=torch.channels_last)
    step = _training(network, size, device) if training else _inference(network, size, device)
    step()
    # Without what was needed to build the network and to bring its weights into their layout.
    _resident(device, reset=True)
    taken = []
    for _ in range(repeat):
        began = time.perf_counter()
        step()
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken), max(_resident(device) - before, PAGE)


def _training(network: nn.Module, size: int, device: torch.device) -> Callable[[], object]:
    images = torch.rand(BATCH, 3, size, size, device=device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.train().parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(device, True):
            outputs = network(images)
        outputs.float().square().mean().backward()
        optimizer.step()
        wait_for(device)

    return step


def _inference(network: nn.Module, size: int, device: torch.device) -> Callable[[], object]:
    image = torch.rand(1, 3, size, size, device=device).to(memory_format=torch.channels_last)
    network.eval()

    def step() -> None:
        with torch.inference_mode():
            network(image)
        wait_for(device)

    return step


def _resident(device: torch.device, reset: bool = False) -> float:
    """The most memory since the last reset, in MB."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 1e6
    if reset:
        PEAK.write_text("5", encoding="ascii")
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(found) * 1024 / 1e6
