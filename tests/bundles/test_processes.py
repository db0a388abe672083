"""The end of a process that was one of a group."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import OVERRIDES, config

_THREADS = Path("/proc/self/task")

_SCRIPT = """
import json, pathlib, sys
from monai.bundle import create_workflow

def gloo():
    names = [(task / "comm").read_text().strip() for task in pathlib.Path("/proc/self/task").iterdir()]
    return sum("gloo" in name for name in names)

given = json.loads(sys.argv[1])
workflow = create_workflow(workflow_type="train", **given)
workflow.run()
during = gloo()
workflow.finalize()
print("threads", during, gloo())
"""


@pytest.mark.skipif(not _THREADS.is_dir(), reason="names of threads are read from /proc")
def test_no_thread_of_gloo_outlives_the_group(class_dataset, tmp_path):
    """One that is late to let go of its tensors ends a process, after training, by `std::terminate` (exit code -6)."""
    given = {
        **{name: value for name, value in OVERRIDES["seg_student"].items() if name != "features"},
        "config_file": config("seg_student", "train", "multi_gpu_train"),
        # It has heads that its loss does not see.
        "network_def": {
            **{"_target_": "BasicUNetPlusPlus", "spatial_dims": 2, "in_channels": 3, "out_channels": 1},
            **{"features": [4, 4, 4, 4, 4, 4]},
        },
        "taps": {"d4": "upcat_0_1", "d3": "upcat_0_2", "d2": "upcat_0_3", "d1": "upcat_0_4"},
        "recipe": "none",
        "epochs": 1,
        "dataset_dir": str(class_dataset),
        "output_dir": str(tmp_path),
    }
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(given)],
        capture_output=True,
        text=True,
        env={**os.environ, **alone, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    word, during, after = run.stdout.strip().splitlines()[-1].split()
    assert word == "threads"
    assert int(during) > 0
    assert int(after) == 0
