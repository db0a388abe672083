"""A function over many jobs in several processes, whatever the calling program is."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerDied(Exception):
    """A worker process ended without an exception, most often for lack of memory."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Results of `function(job)` as they get ready, in no particular order; `workers=1` runs in this process.

    `jobs` is read only a few jobs ahead, so that it may yield large things.

    Raises:
        WorkerDied: a worker process was killed or crashed.
    """
    if workers <= 1:
        yield from map(function, jobs)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _die_with_parent)
    waiting: set[Future[Result]] = set()
    try:
        for job in jobs:
            with _bare_main():
                waiting.add(pool.submit(function, job))
            if len(waiting) >= 4 * workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise WorkerDied("a worker process died, most often for lack of memory") from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _bare_main() -> Iterator[None]:
    """Keeps new workers from importing the caller's main module.

    They need nothing from it. Importing it would load torch once more in every worker of a training program, and run
    scripts without a main guard a second time.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _die_with_parent() -> None:
    """A worker whose parent was killed would wait for jobs for ever: this makes it end."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
