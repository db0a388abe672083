"""The lines with torchrun, with gloo on CPUs, on one computer and on two that share nothing but the data."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from test_several_nodes import free_port
from tiny import BUNDLES, TAPS_OF_TEACHER, TINY_STUDENT, rows, untrained

SMALL = {**TINY_STUDENT, "epochs": 1}


def begin(line: str, folder: Path, **more: object) -> subprocess.Popen:
    """A line in a process of its own, with small values added; its folder has the bundles and the data."""
    words = shlex.split(line)
    assert words.pop(0) == "torchrun"
    words += [word for name, value in more.items() for word in (f"--{name}", str(value))]
    # The module behind the command torchrun, which needs not be on the PATH.
    command = [sys.executable, "-m", "torch.distributed.run", *words]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "MONAI_KD_HOME": str(folder / "home")}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def end(*processes: subprocess.Popen) -> None:
    outputs = [process.communicate()[0].decode() for process in processes]
    for process, said in zip(processes, outputs, strict=True):
        assert process.returncode == 0, said[-3000:]


@pytest.fixture
def computer(disc_dataset, tmp_path):
    """Makes folders in which the lines are run."""

    def made(name: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundles").symlink_to(BUNDLES)
        (tmp_path / name / "DATA").symlink_to(disc_dataset)
        return tmp_path / name

    return made


def test_processes(lines, computer):
    (line,) = lines
    folder = computer("one")
    untrained("seg_teacher", folder / "runs" / "teacher", taps=TAPS_OF_TEACHER)
    given = {name: value for name, value in SMALL.items() if name != "teacher_overrides"}
    port = f"--master_port={free_port()} "
    end(begin(line.replace("-m ", port + "-m ", 1), folder, **given, output_dir="OUT"))
    assert [row["epoch"] for row in rows(folder / "OUT")] == [1]
    assert (folder / "OUT" / "model.pt").is_file()


def test_nodes(lines, computer):
    """The line of the first computer, and that of the second of rank 1, each with one process in place of 4."""
    (line,) = lines
    for printed, here in (
        ("--nproc_per_node=4", "--nproc_per_node=1"),
        ("--master_addr=node0", "--master_addr=127.0.0.1"),
        ("--master_port=29500", f"--master_port={free_port()}"),
    ):
        assert printed in line
        line = line.replace(printed, here)
    nodes = [computer(name) for name in ("node0", "node1")]
    own = [line, line.replace("--node_rank=0", "--node_rank=1")]
    end(*(begin(each, folder, **SMALL) for each, folder in zip(own, nodes, strict=True)))
    assert (nodes[0] / "runs" / "student" / "model.pt").is_file()
    assert not list((nodes[1] / "runs").rglob("*.pt"))
