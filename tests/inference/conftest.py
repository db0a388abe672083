"""Running the student's bundle on files."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import create_workflow
from slices import Brightness

CONFIG = Path(__file__).resolve().parents[2] / "bundles" / "seg_student" / "configs" / "inference.json"


@pytest.fixture(scope="session")
def brightness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("brightness") / "model.pt"
    torch.save(Brightness().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def bright_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """seg_student with the network of `brightness`."""
    config = json.loads(CONFIG.read_text())
    config["network_def"] = {"_target_": "slices.Brightness"}
    folder = tmp_path_factory.mktemp("bright_bundle")
    shutil.copytree(CONFIG.parent, folder / "configs")
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def segment(tmp_path: Path, brightness: Path) -> Callable[..., dict[str, dict[str, str]]]:
    """Segments what is bright; gives the rows of findings.csv by file. Outputs go to ``tmp_path / "out"``."""

    def run(source: Path, image_size: int = 64, **overrides: object) -> dict[str, dict[str, str]]:
        if overrides.get("dicom_seg"):
            pytest.importorskip("highdicom", reason="needs monai_kd[dicom]")
        values = {
            "input": str(source),
            "output_dir": str(tmp_path / "out"),
            "checkpoint": str(brightness),
            "network_def": {"_target_": "slices.Brightness"},
            "preprocessing#image_size": image_size,
            "device": "cpu",
            "overlays": False,
            "logging_file": False,
        }
        workflow = create_workflow(config_file=str(CONFIG), workflow_type="infer", **values | overrides)
        workflow.run()
        workflow.finalize()
        with open(tmp_path / "out" / "findings.csv", newline="") as file:
            return {row["file"]: row for row in csv.DictReader(file)}

    return run
