"""Memory that a process keeps when it is freed."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from monai_kd.config import memory

# Pages that are asked for by the same allocations a second time, in a new process: the setting can't be taken back.
PROGRAM = """
import resource, runpy, sys
import torch
keep_freed_memory = runpy.run_path(sys.argv[1])["keep_freed_memory"]  # without the seconds that MONAI takes to start

def step():
    kept = [torch.ones(2**22) for _ in range(8)]  # 16 MiB each
    return kept

was_set = keep_freed_memory() if "keep" in sys.argv else False
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

step(), step()  # aligned blocks need some room more the second time
# On a busy computer sometimes in a later step, too.
found = [pages() for _ in range(4)]
print(was_set, min(found) if was_set else found[0])
"""
PAGES = 8 * 2**24 // 4096


def _run(*arguments: str, **environment: str) -> tuple[bool, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    clean.pop("GLIBC_TUNABLES", None)
    command = [sys.executable, "-c", PROGRAM, memory.__file__, *arguments]
    done = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True)
    was_set, pages = done.stdout.split()
    return was_set == "True", int(pages)


glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="another C library than glibc"
)


@glibc
def test_a_second_step_asks_for_no_pages() -> None:
    was_set, pages = _run("keep")
    assert was_set
    assert pages < PAGES / 20
    assert _run()[1] > PAGES / 2  # without it, nearly all are asked for again


@glibc
@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "1000"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}],
    ids=str,
)
def test_what_the_user_has_set_stays(environment: dict[str, str]) -> None:
    was_set, pages = _run("keep", **environment)
    assert not was_set
    assert pages > PAGES / 2
