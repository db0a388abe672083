"""Run a function over many jobs in several child processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from data_prep.child import CannotStart, ChildDied, ChildProcess, borrowed

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerDied(Exception):
    """A worker process ended without an exception, most often for lack of memory, or could not be started."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    died: Callable[[Job, str], Result] | None = None,
    large: Callable[[Job], bool] = lambda job: False,
) -> Iterator[Result]:
    """Yield the results of `function(job)` as they are completed, in no particular order.

    `jobs` is read only a few jobs ahead, so that it may yield large objects. A job whose process ended is retried once
    in a new one, because the system may also kill a process when other programs use up the memory.

    Args:
        function: at the top level of a module, where child processes find it.
        jobs: its arguments.
        workers: number of processes.
        died: makes the result of a job whose process ended twice, from the job and from the signal or exit code; the
            other jobs continue. None: a process that ended is an error, and a single worker works in this process.
        large: whether a job takes so much memory that none is read ahead beside it.

    Raises:
        WorkerDied: a worker process was killed or crashed twice, and there is no `died`; or none could be started.
    """
    if workers <= 1 and died is None:
        yield from map(function, jobs)
        return
    workers = max(workers, 1)
    waiting: set[Future[Result]] = set()
    threads = ThreadPoolExecutor(workers)
    free = [borrowed() for _ in range(workers)]
    children = [each.__enter__() for each in free]

    def work(job: Job) -> Result:
        child = children.pop()
        try:
            return _twice(child, function, job, died)
        finally:
            children.append(child)

    try:
        for job in jobs:
            waiting.add(threads.submit(work, job))
            alone = large(job)
            del job
            if alone or len(waiting) >= 4 * workers:
                done, waiting = wait(waiting, return_when=ALL_COMPLETED if alone else FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        threads.shutdown(cancel_futures=True)
        for each in free:
            each.__exit__(None, None, None)


def _twice(
    child: ChildProcess, function: Callable[[Job], Result], job: Job, died: Callable[[Job, str], Result] | None
) -> Result:
    how = ""
    for last in (False, True):
        try:
            return child.call(function, job)
        except CannotStart as error:
            raise WorkerDied(str(error)) from None
        except ChildDied as error:
            how = str(error)
            if last and died is None:
                raise WorkerDied(f"a worker process died twice ({how}), most often for lack of memory") from None
    assert died is not None, "raised above"
    return died(job, how)
