"""Times of several ways to do the same, on a machine that other programs use too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["interleaved", "several", "wait_for"]


def interleaved(ways: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, float]:
    """Median milliseconds of each way.

    Each repetition runs all ways once, in turn, so that a load that comes and goes slows all of them: ratios of the
    medians are comparable where the times themselves are not. A first repetition is not counted.

    Args:
        ways: functions by name.
        repeat: number of repetitions that count.

    Raises:
        ValueError: ``repeat`` is less than 1.

    Example:
        >>> sorted(interleaved({"a": lambda: None, "b": lambda: None}, 3))
        ['a', 'b']
    """
    if repeat < 1:
        raise ValueError(f"repeat must be 1 or more, got {repeat}.")
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + repeat):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            taken[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def several(way: Callable[[], object], times: int, device: torch.device) -> None:
    """Run a way more than once, where once takes too short a time to measure."""
    for _ in range(times):
        way()
    wait_for(device)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
