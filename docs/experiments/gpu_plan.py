"""Runs of the study side by side on one GPU, for the `plan` of docs/experiments/gpu.sh.

Networks as small as these leave a GPU idle: each step waits for Python, which starts one operation after the other.
With nine processes side by side in place of five, each took a fifth longer (docs/performance.md).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from study import UNFINISHED, Run

MPS = "nvidia-cuda-mps-control"
CHECK = "import torch; torch.nn.functional.conv2d(*[torch.ones(1, 1, 8, 8, device='cuda')] * 2).item()"
# Seconds for a process to end when it is told to.
PATIENCE = 10


class _Job:
    def __init__(self, words: Sequence[str]) -> None:
        self.words, self.run = list(words), Run.named(words)
        self.name = self.run.folder.name
        self.teacher = self.run.teacher_path().resolve() if self.run.how != "alone" else None
        self.network = (self.run.folder / "model.pt").resolve()
        self.ended = threading.Event()


class Plan:
    """Trains and evaluates runs side by side; a student waits for its teacher, if that is among them.

    Args:
        here: folder of study.py.
        lines: the words of each run, as for study.py, with its data and runs.
        logs: folder for what each run prints.

    Raises:
        ValueError: there is no line, one is no run, or two are the same.
    """

    def __init__(self, here: Path, lines: Sequence[Sequence[str]], logs: Path) -> None:
        self.here, self.logs, self.jobs = here, logs, [_Job(words) for words in lines]
        if not self.jobs:
            raise ValueError("the plan has no runs.")
        if len({job.network for job in self.jobs}) < len(self.jobs):
            raise ValueError("the plan has the same run twice.")
        if any(job.teacher == job.network for job in self.jobs):
            raise ValueError("a run of the plan is its own teacher.")
        self.end, self.processes = 0.0, set[subprocess.Popen]()
        logs.mkdir(parents=True, exist_ok=True)

    def run(self, minutes: float, environment: Mapping[str, str]) -> int:
        """Run all, and end all that runs when the time is up or this process is told to end.

        Returns:
            0; 75 if a run is not complete, so that the same plan is to be continued; or the code of a run that failed.
        """
        self.end = time.monotonic() + 60 * minutes
        with ThreadPoolExecutor(len(self.jobs)) as pool:
            try:
                codes = list(pool.map(lambda job: self._complete(job, environment), self.jobs))
            finally:
                # When interrupted, before the pool waits for its threads.
                self.end = 0.0
                for process in list(self.processes):
                    _end(process)
        failed = [code for code in codes if code not in (0, UNFINISHED)]
        return failed[0] if failed else max(codes)

    def _complete(self, job: _Job, environment: Mapping[str, str]) -> int:
        try:
            for other in self.jobs if not job.run.trained() else []:
                if job.teacher == other.network:
                    other.ended.wait()
                    if not other.run.trained():
                        print(f"{job.name}: waits for {other.name}")
                        return UNFINISHED
            code = self._call(job, environment, "evaluate=0")
        finally:
            job.ended.set()
        code = code or self._call(job, environment)
        log = self.logs / f"{job.name}.log"
        said = {0: "complete", UNFINISHED: "not complete"}.get(code, f"exit code {code}, see {log}")
        print(f"{job.name}: {said}")
        return code

    def _call(self, job: _Job, environment: Mapping[str, str], *more: str) -> int:
        if self.end <= time.monotonic():
            return UNFINISHED
        with open(self.logs / f"{job.name}.log", "a") as log:
            command = [sys.executable, str(self.here / "study.py"), *job.words, *more]
            # In a session of its own, to be ended with what it has started.
            process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(environment), start_new_session=True)
            self.processes.add(process)
            try:
                code = process.wait(max(0.0, self.end - time.monotonic()))
            except subprocess.TimeoutExpired:
                _end(process)
                code = UNFINISHED
            self.processes.discard(process)
            return code if self.end else UNFINISHED


def _end(process: subprocess.Popen) -> None:
    """End a process with its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
            break
    with suppress(ProcessLookupError):
        # Of children that outlived it.
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """SIGTERM, as of ``timeout``, becomes an exception, so that what was begun is ended and what is there collected."""

    def end(*_: object) -> None:
        raise SystemExit(UNFINISHED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def shared_gpu(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment for processes that share a GPU by NVIDIA's MPS, where it is installed and works.

    Without it, their operations take turns, and none run at the same time.
    """
    program = shutil.which(MPS)
    if program is None:
        yield dict(environment)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        shared = {**environment, "CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        try:
            works = False
            with suppress(subprocess.TimeoutExpired):
                subprocess.run([program, "-d"], env=shared, check=False, timeout=PATIENCE)
                check = [sys.executable, "-c", CHECK]
                works = subprocess.run(check, env=shared, check=False, timeout=6 * PATIENCE).returncode == 0
            if not works:
                print(f"{MPS} does not work here: the processes take turns on the GPU", file=sys.stderr)
            yield shared if works else dict(environment)
        finally:
            with suppress(subprocess.TimeoutExpired):
                subprocess.run([program], input="quit\n", text=True, env=shared, check=False, timeout=PATIENCE)
