"""The number of threads of a run: no more than there are cores for."""

from __future__ import annotations

import logging
import math
import os
import time
from pathlib import Path

import torch

from data_prep.pool import available_cores

__all__ = ["choose_threads", "free_cores", "quota_cores"]

logger = logging.getLogger(__name__)

# Set by the first choice: a teacher's run within the run of its student keeps the number.
_chosen = False

SAMPLE = 0.25  # seconds over which the use of the cores is measured


def choose_threads(threads: int | None = None) -> int:
    """Set the number of threads of torch's operators to the number of cores that this process will get, and log it.

    oneDNN's weight gradients in bfloat16 on processors with AMX make their threads wait for each other in a loop, many
    times an operator. Where a thread does not get a core, because another job runs there or a container has a quota,
    the others burn theirs until it does: measured for two threads beside other jobs on two cores, one operator took
    1,030 ms in place of the 9 ms of one thread.

    Later calls in the same process keep the number, unless another one is given.

    Args:
        threads: the number to use; ``None``: ``OMP_NUM_THREADS`` where it is set, otherwise the smallest of the cores
            of the process's affinity, the quota of its container, and the cores that are idle now, at least 1.

    Returns:
        the number of threads.

    Raises:
        ValueError: ``threads`` is not a whole number from 1.
    """
    global _chosen
    before, _chosen = _chosen, True
    if threads is not None:
        if type(threads) is not int or threads < 1:
            raise ValueError(f"threads must be a whole number from 1, or None, got {threads!r}.")
        torch.set_num_threads(threads)
        logger.info("threads: %d, as given", threads)
        return threads
    if before:
        return torch.get_num_threads()
    if os.environ.get("OMP_NUM_THREADS"):
        logger.info("threads: %d, by OMP_NUM_THREADS", torch.get_num_threads())
        return torch.get_num_threads()
    cores, quota, free = available_cores(), quota_cores(), free_cores()
    allowed = min(cores, math.inf if quota is None else max(1, math.floor(quota)))
    # Half a busy core is noise; a core that is busy most of the time belongs to another job.
    chosen = int(max(1, min(allowed, math.inf if free is None else round(free))))
    torch.set_num_threads(chosen)
    of_quota = "" if quota is None else f", a quota of {quota:g}"
    of_free = "" if free is None else f", {free:.1f} of them idle"
    level = logging.WARNING if chosen < allowed else logging.INFO
    more = " Other jobs run on these cores; --threads sets another number." if chosen < allowed else ""
    logger.log(level, "threads: %d, of %d cores%s%s.%s", chosen, cores, of_quota, of_free, more)
    return chosen


def quota_cores(proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The CPU quota of this process's control groups (versions 1 and 2), in cores; ``None`` without a quota.

    Args:
        proc, root: where the kernel shows processes and control groups.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # In a container, the path may be that of the host, and the files are at the root.
        for base in (root, root / controllers, root / "cpu"):
            place = base / path.lstrip("/")
            quotas += [_quota(each) for each in (place, *place.parents) if each.is_relative_to(base)]
    found = [quota for quota in quotas if quota is not None]
    return min(found) if found else None


def _quota(folder: Path) -> float | None:
    """Of one control group."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError):
        return None


def free_cores(seconds: float = SAMPLE, stat: Path = Path("/proc/stat")) -> float | None:
    """How many of the cores of this process's affinity were idle, on average over some time in which it sleeps.

    Args:
        seconds: how long.
        stat: where the kernel shows the times of each core.

    Returns:
        from 0 to the number of cores; ``None`` on systems that don't show them.
    """
    before = _times(stat)
    time.sleep(seconds)
    after = _times(stat)
    shares = []
    for core, (idle, total) in before.items():
        passed = after.get(core, (idle, total))[1] - total
        shares.append((after[core][0] - idle) / passed if passed > 0 else 0.0)
    return sum(shares) if shares else None


def _times(stat: Path) -> dict[str, tuple[int, int]]:
    """Core to its idle time and the sum of its times, in ticks."""
    try:
        lines = stat.read_text().splitlines()
        cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return {}
    found = {}
    for name, *ticks in (line.split() for line in lines if line.startswith("cpu")):
        if name in cores:
            # user nice system idle iowait irq softirq steal; the guests' are in user already
            times = [int(tick) for tick in ticks[:8]]
            found[name] = (times[3] + times[4], sum(times))
    return found
