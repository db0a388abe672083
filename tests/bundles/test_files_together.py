"""Slices of several files go through a bundle's network together, and nothing changes by that."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import create_workflow
from PIL import Image
from tiny import config, untrained

from monai_kd.inference.batches import FilesTogether


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Slices as NIfTI and PNG, volumes among them, and files that can't be read."""
    folder = tmp_path_factory.mktemp("in")
    random = np.random.default_rng(0)
    for number in range(9):
        shape = (40, 30, 1) if number < 6 else (25, 20, 4)
        volume = random.integers(0, 900, shape).astype(np.int16)
        nib.save(nib.Nifti1Image(volume, np.diag([-0.5, -0.6, 6.0, 1.0])), folder / f"{number * 7 % 9}.nii.gz")
    for number in range(4):
        Image.fromarray(random.integers(0, 255, (30, 30 + number)).astype(np.uint8)).save(folder / f"p{number}.png")
    for name in ("3a.nii.gz", "p1a.png"):
        (folder / name).write_bytes(b"no image")
    return folder


def run(bundle: str, checkpoint: Path, source: Path, out: Path, batch_size: int, **more) -> dict[str, bytes]:
    values = {"input": str(source), "output_dir": str(out), "checkpoint": str(checkpoint), "batch_size": batch_size}
    values |= {"device": "cpu", "logging_file": False, **more}
    workflow = create_workflow(config_file=config(bundle, "inference"), workflow_type="infer", **values)
    workflow.run()
    workflow.finalize()
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize("amp", [False, True])
def test_masks_do_not_depend_on_what_goes_together(amp, files, tmp_path, monkeypatch):
    checkpoint = untrained("seg_student", tmp_path)
    sizes = []
    original = FilesTogether.__init__

    def counted(self, loader, predict, most):
        original(self, loader, lambda images: (sizes.append(len(images)), predict(images))[1], most)

    monkeypatch.setattr(FilesTogether, "__init__", counted)
    alone = run("seg_student", checkpoint, files, tmp_path / "one", 1, amp=amp)
    assert sizes == []
    together = run("seg_student", checkpoint, files, tmp_path / "many", 5, amp=amp)
    assert max(sizes) > 2
    assert alone.keys() == together.keys()
    assert {name for name in alone if alone[name] != together[name]} == set()
    with open(tmp_path / "many" / "findings.csv", newline="") as file:
        status = {row["file"]: row["status"] for row in csv.DictReader(file)}
    assert {name for name, each in status.items() if each != "ok"} == {"3a.nii.gz", "p1a.png"}
    assert len(status) == 15


def test_classes_do_not_depend_on_what_goes_together(files, tmp_path):
    checkpoint = untrained("cls_student", tmp_path)
    found = []
    for most in (1, 5):
        run("cls_student", checkpoint, files, tmp_path / str(most), most)
        found.append(json.loads((tmp_path / str(most) / "classes.json").read_text()))
    assert found[0] == found[1]
