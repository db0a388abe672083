"""Jobs of an archive: how they are started, by this computer and by Slurm, and how they end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from at_once import AtOnce
from PIL import Image
from students import segmentation_student

from data_prep.disk import is_running
from data_prep.lock import only_writer
from monai_kd.__main__ import main
from monai_kd.archive import make_plan, shard
from monai_kd.archive.jobs import job_executor, run_jobs
from monai_kd.io.table import write_table

pytest.importorskip("submitit")

HERE = Path(__file__).parent
# Programs of Slurm, whose jobs run until they are cancelled; each writes its arguments into the file `log`.
SLURM = {
    "srun": "",
    "sbatch": "cat $1 >> log; if [ -e refuse ]; then echo 'sbatch: error: no such partition' >&2; exit 1; fi\n"
    "kill -TERM $PPID; echo Submitted batch job 7",
    "sacct": "printf 'JobID|State|NodeList\\n7|RUNNING|n1\\n7_0|RUNNING|n1\\n7_1|RUNNING|n1\\n'",
    "scancel": "echo scancel $* >> log",
}


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return segmentation_student(tmp_path_factory.mktemp("student"))


@pytest.fixture
def slices(tmp_path) -> Path:
    (tmp_path / "slices").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 30)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "slices" / f"{number}.png")
    return tmp_path / "slices"


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, script in SLURM.items():
        (folder / name).write_text(f"#!/bin/sh\ncd {folder}\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.mark.parametrize("visible", [None, "0,2", ""])
def test_local_jobs_see_the_gpus_that_the_command_sees(visible, tmp_path, monkeypatch):
    # A shell that replaces itself by its last command, as bash does, is no parent of what it starts.
    monkeypatch.setattr("submitit.local.local.subprocess.Popen", bash_popen)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    job = job_executor(tmp_path, "local", 1, ()).submit(os.environ.get, "CUDA_VISIBLE_DEVICES")
    assert job.result() == visible


class bash_popen(subprocess.Popen):
    """With bash as the shell, where there is one."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options, executable=shutil.which("bash") if options.get("shell") else None)


def test_a_terminated_command_ends_its_local_jobs(student, slices, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{HERE.parents[1]}")
    mark, more = tmp_path / "mark", tmp_path / "more.json"
    stopping = {"_target_": "dying.StoppingDataset", "data": "@inputs", "transform": "@preprocessing"}
    more.write_text(json.dumps({"dataset": {**stopping, "command": os.getpid(), "mark": str(mark)}, "overlays": False}))
    line = ["archive", "seg_student", student, slices, tmp_path / "out", "--device", "cpu", "--config", more]
    line = [str(each) for each in [*line, "--workers", 1]]
    monkeypatch.syspath_prepend(HERE)
    assert main(line) == 130
    deadline = time.monotonic() + 60
    while is_running(int(mark.read_text())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(int(mark.read_text()))
    assert main(line) == 0
    assert "2 ok, 0 failed, 0 skipped" in capsys.readouterr().out


def test_a_terminated_command_cancels_its_jobs_of_slurm(slices, slurm, tmp_path):
    plan = make_plan(slices, tmp_path / "out", {}, 1)
    executor = job_executor(tmp_path / "out" / "jobs", "slurm", 2, ["partition=gpu"])
    with pytest.raises(KeyboardInterrupt):
        run_jobs(plan, executor, 2, 1)
    log = (slurm / "log").read_text()
    assert "--array=0-1%2" in log
    assert "scancel 7_0" in log
    assert "scancel 7_1" in log


def test_options_of_sbatch_are_taken_by_their_names(slurm, tmp_path):
    options = ["job-name=x", "time=240", "gpus_per_node=1", "mem_gb=4", "reservation=night", "nice=10"]
    executor = job_executor(tmp_path, "slurm", 2, options)
    (slurm / "refuse").touch()
    with pytest.raises(RuntimeError):
        executor.submit(time.sleep, 0)
    lines = {line.removeprefix("#SBATCH --") for line in (slurm / "log").read_text().splitlines()}
    assert lines >= {"job-name=x", "time=240", "gpus-per-node=1", "mem=4GB", "reservation=night", "nice=10"}
    assert not any("monai_kd_archive" in line for line in lines)


@pytest.mark.parametrize(
    ("option", "error"), [("=x", "is no NAME=VALUE"), ("gpu", "is no NAME=VALUE"), ("setup=x", "can't take this value")]
)
def test_wrong_options_of_sbatch_are_named(option, error, slurm, tmp_path):
    with pytest.raises(ValueError, match=rf"--slurm:? {option}\b.*{error}"):
        job_executor(tmp_path, "slurm", 2, [option])


def test_what_slurm_refuses_is_one_line(student, slices, slurm, tmp_path, monkeypatch, capsys):
    (slurm / "refuse").touch()
    line = ["archive", "seg_student", student, slices, tmp_path / "out", "--cluster", "slurm"]
    assert main([str(each) for each in line]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: the jobs could not be submitted: sbatch: error: no such partition"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([str(each) for each in [*line[:4], tmp_path / "other", *line[5:]]]) == 2
    assert 'error: --cluster slurm: Could not detect "srun"' in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_shard_that_an_earlier_job_works_on_is_waited_for(slices, tmp_path, monkeypatch, caplog):
    plan, locked = make_plan(slices, tmp_path / "out", {"device": None}, 2), threading.Event()
    monkeypatch.setattr(shard, "create_workflow", lambda **_: pytest.fail("the earlier job has done it"))

    def earlier() -> None:
        with only_writer(plan.folder(0)):
            locked.set()
            time.sleep(2)
            rows = [{"file": image.label, "status": "ok"} for image in plan.images]
            write_table(rows, ["file", "status"], plan.folder(0) / "findings.csv")

    job = threading.Thread(target=earlier)
    job.start()
    locked.wait()
    assert run_jobs(plan, AtOnce(), 1, 1) == {}
    job.join()
    assert "1 shards (0) are still worked on by jobs of an earlier run" in caplog.text
