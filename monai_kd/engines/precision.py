"""Mixed precision on any device."""

from __future__ import annotations

import torch

__all__ = ["autocast", "autocast_dtype"]


def autocast_dtype(device: torch.device) -> torch.dtype:
    """The type for autocast on a device: bfloat16 on a CPU and on CUDA devices that support it, else float16."""
    if device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)):
        return torch.bfloat16
    return torch.float16


def autocast(device: torch.device | str, enabled: bool) -> torch.autocast:
    """``torch.autocast`` for the type of ``device``, which MONAI's engines hard-code to CUDA."""
    device = torch.device(device)
    return torch.autocast(device.type, dtype=autocast_dtype(device), enabled=enabled)
