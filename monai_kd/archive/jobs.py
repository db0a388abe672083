"""Jobs of submitit that run the shards of an archive."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.lock import FolderInUse, only_writer

from .plan import Plan, is_done
from .shard import run_shards

__all__ = ["job_executor", "run_jobs"]

logger = logging.getLogger(__name__)

ATTEMPTS = 3
A_YEAR = 365 * 24 * 60  # minutes: submitit ends local jobs after two otherwise
POLL = 1  # seconds
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def job_executor(folder: Path, cluster: str, workers: int, slurm: Sequence[str]) -> Any:
    """What starts jobs on this computer or a cluster.

    Args:
        folder: for the logs.
        cluster: ``"local"`` or ``"slurm"``.
        workers: number of jobs at a time.
        slurm: ``name=value`` of options of ``sbatch``, with ``-`` or ``_`` within a name.

    Raises:
        ValueError: an option is no ``name=value`` or has a value that submitit can't take, there are options without a
            cluster, or Slurm is not installed here.
    """
    if slurm and cluster != "slurm":
        raise ValueError(f"--slurm {' '.join(slurm)} is for a cluster: give --cluster slurm too.")
    if wrong := [option for option in slurm if not option.partition("=")[0] or "=" not in option]:
        raise ValueError(f"--slurm: {', '.join(wrong)} is no NAME=VALUE, such as partition=gpu.")
    import submitit

    # Submitit hides all GPUs from local jobs, for which none was asked. Its option for a shell that undoes this takes
    # the parent of the job for that shell, which it is not where the shell replaces itself, as bash does.
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    setting = ["-u", "CUDA_VISIBLE_DEVICES"] if seen is None else [f"CUDA_VISIBLE_DEVICES={seen}"]
    try:
        executor = submitit.AutoExecutor(
            folder, cluster=cluster, local_python=shlex.join(["env", *setting, sys.executable])
        )
    except RuntimeError as error:
        raise ValueError(
            f"--cluster {cluster}: {error} Start the command on a node that has srun and sbatch."
        ) from None
    executor.update_parameters(name="monai_kd_archive")
    if cluster == "local":
        executor.update_parameters(timeout_min=A_YEAR)
    else:
        executor.update_parameters(slurm_array_parallelism=workers)
        _take_options(executor, slurm)
    return executor


def _take_options(executor: Any, slurm: Sequence[str]) -> None:
    others: dict[str, str] = {}
    for option in slurm:
        given, value = option.split("=", 1)
        name = given.replace("-", "_")
        try:
            executor.update_parameters(**{f"slurm_{name}": int(value) if value.isdecimal() else value})
        except NameError:
            # Submitit has a name of its own for some options of sbatch alone.
            others[name] = value
        except (TypeError, ValueError, AssertionError) as error:
            raise ValueError(f"--slurm {option}: submitit can't take this value of {name} ({error}).") from None
    if others:
        executor.update_parameters(slurm_additional_parameters=others)


def run_jobs(plan: Plan, executor: Any, workers: int, sharing: int) -> dict[int, str]:
    """Run what is not done, by jobs of which some share the cores.

    What a job left undone, because it was killed say, is given to another one, up to three times. When this process is
    interrupted or terminated, all jobs are cancelled.

    Args:
        plan: of the archive.
        executor: see `job_executor`.
        workers: number of jobs at a time.
        sharing: number of jobs that share the cores of a computer.

    Returns:
        The shards that are not done afterwards, and why.

    Raises:
        KeyboardInterrupt: this process got ``SIGINT``, ``SIGTERM`` or ``SIGHUP``.
        ValueError: the jobs could not be submitted.
    """
    left = {number: "" for number in range(plan.shards) if not is_done(plan, number)}
    if held := list(_held(plan, left)):
        logger.warning(
            "%d shards (%s) are still worked on by jobs of an earlier run, which are waited for: end those jobs to "
            "have their shards begun anew.",
            *(len(held), ", ".join(map(str, held[:10]))),
        )
    for attempt in range(ATTEMPTS):
        if not left:
            break
        logger.info("%d of %d shards are left, attempt %d", len(left), plan.shards, attempt + 1)
        numbers = list(left)
        parts = [numbers[first::workers] for first in range(min(workers, len(left)))]
        errors = _results(executor, partial(run_shards, str(plan.output_dir), sharing=sharing), parts)
        left = {number: errors.get(number, "its job ended early") for number in numbers if not is_done(plan, number)}
    return left


def _held(plan: Plan, numbers: Iterable[int]) -> Iterator[int]:
    for number in numbers:
        if (folder := plan.folder(number)).is_dir():
            try:
                with only_writer(folder):
                    pass
            except FolderInUse:
                yield number


def _results(executor: Any, job_of: Any, parts: list[list[int]]) -> dict[int, str]:
    """The errors by shard that the jobs return, when all have ended: then no shard is in two hands."""
    with _noted() as signals:
        try:
            jobs = executor.map_array(job_of, parts, range(len(parts)))
        except RuntimeError as error:
            raise ValueError(f"the jobs could not be submitted: {' '.join(str(error).split())}") from None
        try:
            while not (signals or all(job.done() for job in jobs)):
                time.sleep(POLL)
        finally:
            for job in jobs:
                if not job.done():
                    job.cancel(check=False)
        if signals:
            logger.warning("%s: all jobs are cancelled.", signal.Signals(signals[0]).name)
            raise KeyboardInterrupt
    errors: dict[int, str] = {}
    for job in jobs:
        if (failure := job.exception()) is None:
            errors |= job.result()
        else:
            logger.warning("job %s ended early: %s; its log is %s", job.job_id, _reason(failure), job.paths.stderr)
    return errors


@contextmanager
def _noted() -> Iterator[list[int]]:
    """Note signals that end this process: raised while jobs are started, they would leave those that were before."""
    noted: list[int] = []

    def note(number: int, _: Any) -> None:
        noted.append(number)

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for ending in ENDING:
            if signal.getsignal(ending) is not signal.SIG_IGN:
                before[ending] = signal.signal(ending, note)
            elif ending == signal.SIGINT:
                # Ignored, as it is by what a script starts in the background, it would be by jobs, too, and submitit
                # ends local jobs by it.
                before[ending] = signal.signal(ending, lambda *_: None)
    try:
        yield noted
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)


def _reason(error: BaseException) -> str:
    """Of submitit's error: the last line of the trace in it, or the first line where there is none."""
    first, *trace = re.split(r"\n-{10,}\n", str(error))
    return (trace[0].rstrip() if trace else first.partition("\n")[0]).rpartition("\n")[2]
