"""The memory of a run: what a step gave back is there for the next one."""

from __future__ import annotations

import ctypes
import logging
import os

__all__ = ["keep_freed_memory"]

logger = logging.getLogger(__name__)

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# From this size on, a block is given back as soon as it is freed: a little more than 64 MiB, the largest map of a batch
# of 8 slices of 256 × 256 in a U-Net of 64 channels. Kept blocks of volumes, whose sizes differ, would leave gaps of up
# to the same size again. The second value is the largest that glibc takes before 2.35.
_LARGEST = (65 * 2**20, 2**25)
_NEVER = -1


def keep_freed_memory() -> bool:
    """Let glibc keep memory that is freed, in place of giving it back to the system and asking for it again.

    By default, glibc gives back large blocks, as the activations of a network are, so that each step, or each slice of
    an inference, gets all of its pages anew, which the system fills with zeros. On one thread of an AMD EPYC, a
    training step of a U-Net on EfficientNet-Lite0 took 11 to 20 % of its time for that, and the network of an inference
    nothing to 40 %, by the state of the machine (docs/performance.md). The process then keeps its largest use, but for
    blocks of more than 65 MiB, such as volumes.

    Nothing is done where the user has set the allocator, by ``MALLOC_…`` or ``GLIBC_TUNABLES`` in the environment, or
    where the C library is not glibc.

    Returns:
        whether it was set.
    """
    by_variable = any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ)
    if by_variable or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  others have no mallopt, or one that does something else
        mallopt = libc.mallopt
    except (OSError, TypeError, AttributeError):
        return False
    if not any(mallopt(_MMAP_THRESHOLD, size) for size in _LARGEST) or not mallopt(_TRIM_THRESHOLD, _NEVER):
        return False
    logger.debug("memory: what is freed is kept for later steps.")
    return True
