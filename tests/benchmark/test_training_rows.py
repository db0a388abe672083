"""The rows of training: they run, and their ratios are those of their times."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from monai_kd.benchmark import training
from monai_kd.benchmark.options import Options

OURS = ["store ÷ plain", "live teacher ÷ plain", "loop of a notebook ÷ live teacher", "loop of a notebook ÷ store"]


def test_rows(monkeypatch, caplog):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchdistill" else find(name))
    found = list(training.rows(Options(repeat=1, tiny=True)))
    assert [row.name.removeprefix("training step, ") for row in found] == OURS
    for row in found:
        first, second = row.measured.values()
        assert row.ratio == pytest.approx(first / second)
    assert "torchdistill is not installed: its rows are left out" in caplog.text


def test_a_warm_store_is_not_asked_to_run_its_teacher(tmp_path: Path):
    setting = training._Setting(True, training.torch.device("cpu"), tmp_path)
    seen = []
    setting.teacher.register_forward_hook(lambda *_: seen.append(1))
    step = training._ours(setting, store=training.TeacherStore(tmp_path / "store"))
    for _ in range(3):
        step()
    assert len(seen) == 1
