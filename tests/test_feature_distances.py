"""How unlike images look to a network, as the program of docs/examinations.md prints it."""

from __future__ import annotations

import re
import runpy
import sys

import documented
import pytest
from disc_slices import write_disc_slices
from documented import ROOT, copied_checkout
from heads_folder import write_heads

from data_prep.negatives import write_negatives
from monai_kd.__main__ import main
from monai_kd.inference import BundlePredictor, read_image

sys.path.append(str(ROOT / "tests" / "bundles"))
from tiny import untrained


def test_line_of_the_page(lines, tmp_path, monkeypatch, capsys):
    (line,) = lines
    checkout = copied_checkout(tmp_path)
    data = write_disc_slices(checkout / "DATA", 48, folds=4)
    checkpoint = untrained("seg_student", checkout / "RUN")
    assert main(["familiarity", "seg_student", str(checkpoint), str(data)]) == 0
    write_heads(checkout / "made")
    head = checkout / "made" / "healthy.nii.gz"
    write_negatives(checkout / "HEADS", [head], step_mm=12, inverted=True, progress=False)
    (checkout / "brain1.nii.gz").symlink_to(head)
    capsys.readouterr()

    documented.run(line, checkout, monkeypatch)

    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"12 slices: [\d.]+ to [\d.]+, median [\d.]+; \d+ % judged", printed[0])
    assert printed[1].startswith("2 of them inverted: ")
    assert [each.partition(":")[0] for each in printed[2:7]] == ["stripes", "checkerboard", "gradient", "noise", "disc"]
    predictor = BundlePredictor(ROOT / "bundles" / "seg_student", checkpoint, device="cpu", judge_unfit=True)
    found = predictor(*read_image(checkout / "brain1.nii.gz"))["examination"]["feature_distance"]
    assert printed[7].startswith(f"brain1.nii.gz: {found:.2f}, inverted ")
    assert [each.partition(",")[0] for each in printed[8:]] == [
        f"healthy_{view}" for view in ("axial", "coronal", "sagittal")
    ]


def test_weights_without_familiarity(tmp_path, monkeypatch):
    data = write_disc_slices(tmp_path / "DATA", 12, folds=4)
    checkpoint = untrained("seg_student", tmp_path / "RUN")
    program = str(ROOT / "docs" / "experiments" / "feature_distances.py")
    monkeypatch.setattr(sys, "argv", [program, "seg_student", str(checkpoint), str(data)])
    with pytest.raises(SystemExit, match=r"there is no familiarity\.safetensors of these weights"):
        runpy.run_path(program, run_name="__main__")
