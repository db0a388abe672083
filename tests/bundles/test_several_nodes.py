"""Training on several computers: processes that share the network and the data folder, and nothing else."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from tiny import OVERRIDES, config, rows

_SCRIPT = """
import hashlib, json, sys
from monai.bundle import create_workflow

def digest(network):
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in network.state_dict().values())).hexdigest()

workflow = create_workflow(workflow_type="train", **json.loads(sys.argv[1]))
workflow.run()
found = workflow.parser.get_parsed_content
print("digests", digest(found("network")), digest(found("distiller").teachers["teacher"]), digest(found("loss")))
workflow.finalize()
"""


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def train_on_two_nodes(folder: Path, **given) -> list[str]:
    """Each process has an output folder and a home of its own, as on two computers; their last lines."""
    port, processes = free_port(), []
    for rank in range(2):
        node = folder / f"node{rank}"
        node.mkdir(parents=True, exist_ok=True)
        values = {
            **given,
            "output_dir": str(node / "run"),
            "config_file": config("seg_student", "train", "multi_gpu_train"),
        }
        told = {
            "RANK": str(rank),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        own = {**os.environ, **told, "MONAI_KD_HOME": str(node / "home"), "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-c", _SCRIPT, json.dumps(values)]
        processes.append(
            subprocess.Popen(command, env=own, cwd=node, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    outputs = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [text.strip().splitlines()[-1] for text, _ in outputs]


def test_nodes_share_nothing_but_the_network_and_the_data(disc_dataset, tmp_path):
    # No BatchNorm, whose statistics are those of each process.
    given = {**OVERRIDES["seg_student"], "dataset_dir": str(disc_dataset), "norm": "instance", "epochs": 1}
    given["teacher_overrides"] = {**given["teacher_overrides"], "norm": "instance"}
    first = train_on_two_nodes(tmp_path, **given, teacher_store=str(tmp_path / "node0" / "store"))
    assert first[0] == first[1]  # the teacher too, which the first one trained and wrote
    assert (tmp_path / "node0" / "run" / "model.pt").is_file()
    assert not list((tmp_path / "node1").rglob("*.pt"))
    (teacher,) = (tmp_path / "node0" / "run").glob("teacher-*")
    written = (teacher / "model.pt").stat().st_mtime_ns
    resumed = train_on_two_nodes(tmp_path, **{**given, "epochs": 2, "resume": True})
    assert resumed[0] == resumed[1] != first[0]
    assert (teacher / "model.pt").stat().st_mtime_ns == written
    assert [row["epoch"] for row in rows(tmp_path / "node0" / "run")] == [1, 2]
