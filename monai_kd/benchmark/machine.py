"""The machine that a benchmark ran on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from data_prep.pool import available_cores

__all__ = ["describe_machine"]

PACKAGES = (
    *("monai_kd", "torch", "monai", "timm", "pytorch-ignite", "numpy", "nibabel", "h5py", "pillow"),
    *("onnxruntime", "openvino", "nncf", "torchdistill"),
)


def describe_machine() -> dict[str, Any]:
    """Name, processor, threads, GPU, load and versions, as values of JSON; packages that are absent are left out.

    Example:
        >>> sorted(describe_machine())
        ['cores', 'cpu', 'gpu', 'load', 'name', 'system', 'threads', 'vector_units', 'versions']
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "cpu": _processor(),
        "vector_units": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        # Processes that wanted to run in the last minute: above the number of cores, the times are those of a queue.
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def _processor() -> str:
    """The model of the processor, which `platform` does not know on Linux."""
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
