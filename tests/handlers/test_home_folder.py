"""``~`` is the home folder for every handler that writes; no folder of that name is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from monai_kd.handlers import ConfusionPicture, EpochLog, OverlayGrid, RunSettings, TrainingCheckpoint


def engine() -> Engine:
    return Engine(lambda engine, batch: None)


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


@pytest.mark.parametrize(
    ("make", "attribute"),
    [
        (lambda path: RunSettings(path, {}), "output_dir"),
        (lambda path: EpochLog(path, engine(), optimizer()), "output_dir"),
        (
            lambda path: TrainingCheckpoint(path, nn.Identity(), nn.Identity(), optimizer(), engine(), None),
            "output_dir",
        ),
        (lambda path: OverlayGrid(path), "path"),
        (lambda path: ConfusionPicture(path, ["a", "b"]), "path"),
    ],
)
def test_home(make, attribute, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert getattr(make("~/run"), attribute) == Path(tmp_path / "run")
