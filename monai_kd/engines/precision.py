"""Mixed precision on any device."""

from __future__ import annotations

import torch

__all__ = ["autocast", "autocast_dtype", "autocast_pays"]


def autocast_dtype(device: torch.device) -> torch.dtype:
    """The type for autocast on a device: bfloat16 on a CPU and on CUDA devices that support it, else float16."""
    if device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)):
        return torch.bfloat16
    return torch.float16


def autocast(device: torch.device | str, enabled: bool) -> torch.autocast:
    """``torch.autocast`` for the type of ``device``, which MONAI's engines hard-code to CUDA."""
    device = torch.device(device)
    return torch.autocast(device.type, dtype=autocast_dtype(device), enabled=enabled)


def autocast_pays(device: torch.device | str) -> bool:
    """Whether a small network is quicker by autocast: on CPUs that have instructions for bfloat16.

    These are AVX-512 BF16 and AMX. Other CPUs compute in float32 and convert. On a GPU, too, the conversions of a
    student of some million weights took more time than they saved, see docs/performance.md.
    """
    if torch.device(device).type != "cpu":
        return False
    # torch has them under names of its own until `torch.cpu.get_capabilities`, of later versions than the oldest here.
    known = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(supported() for supported in known if supported is not None)
