"""Runs of the study side by side on one GPU, for the `plan` of docs/experiments/gpu.sh.

Networks as small as these leave a GPU idle: each step waits for Python, which starts one operation after the other.
Nine processes side by side took as long for an epoch each as five had (docs/performance.md).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from study import UNFINISHED, Run

MPS = "nvidia-cuda-mps-control"
CHECK = "import torch; torch.nn.functional.conv2d(*[torch.ones(1, 1, 8, 8, device='cuda')] * 2).item()"


class _Job:
    def __init__(self, words: Sequence[str]) -> None:
        self.words, self.run = list(words), Run.named([*words, "show=1"])
        self.teacher = self.run.teacher() if self.run.how != "alone" else None
        self.ended = threading.Event()


def plan(here: Path, lines: Sequence[Sequence[str]], minutes: float, logs: Path, environment: Mapping[str, str]) -> int:
    """Train and evaluate runs side by side; a student waits for the teacher that is among them.

    Args:
        here: folder of study.py.
        lines: the words of each run, as for study.py, with its data and runs.
        minutes: after these, all are stopped.
        logs: folder for what each run prints.
        environment: of the processes.

    Returns:
        0; 75 if a run is not complete, so that the same plan is to be continued; or the code of a run that failed.

    Raises:
        ValueError: a line is no run, or two are the same.
    """
    jobs = [_Job(words) for words in lines]
    if len({job.run.folder for job in jobs}) < len(jobs):
        raise ValueError("the plan has the same run twice.")
    logs.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes

    def call(job: _Job, *more: str) -> int:
        left = end - time.monotonic()
        if left <= 0:
            return UNFINISHED
        with open(logs / f"{job.run.folder.name}.log", "a") as log:
            command = [sys.executable, str(here / "study.py"), *job.words, *more]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
            try:
                return process.wait(left)
            except subprocess.TimeoutExpired:
                # With what it has started.
                os.killpg(process.pid, 15)
                process.wait()
                return UNFINISHED

    def complete(job: _Job) -> int:
        try:
            for other in jobs:
                if job.teacher == other.run.folder / "model.pt":
                    other.ended.wait()
                    if not other.run.trained():
                        return UNFINISHED
            code = call(job, "evaluate=0")
        finally:
            job.ended.set()
        return code or call(job)

    with ThreadPoolExecutor(len(jobs)) as pool:
        codes = list(pool.map(complete, jobs))
    for job, code in zip(jobs, codes, strict=True):
        print(f"{job.run.folder.name}: {'complete' if not code else f'exit code {code}, see its log in {logs}'}")
    failed = [code for code in codes if code not in (0, UNFINISHED)]
    return failed[0] if failed else max(codes)


@contextmanager
def shared_gpu(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment for processes that share a GPU by NVIDIA's MPS, where it is installed and works.

    Without it, their operations take turns, and none run at the same time.
    """
    program = shutil.which(MPS)
    if program is None:
        yield dict(environment)
        return
    with tempfile.TemporaryDirectory() as folder:
        shared = {**environment, "CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        subprocess.run([program, "-d"], env=shared, check=False)
        works = subprocess.run([sys.executable, "-c", CHECK], env=shared, check=False, timeout=120).returncode == 0
        if not works:
            print(f"{MPS} does not work here: the processes take turns on the GPU", file=sys.stderr)
        try:
            yield shared if works else dict(environment)
        finally:
            subprocess.run([program], input="quit\n", text=True, env=shared, check=False)
