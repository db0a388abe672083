"""The program that measures augmentation, at small size, and that both of its configs augment."""

from __future__ import annotations

import re
import runpy
import shlex

import pytest
import torch
from documented import ROOT


def test_slice_by_slice_and_in_batches(lines, disc_dataset, capsys):
    pytest.importorskip("kornia")
    (line,) = lines
    _, program, data = shlex.split(line)
    assert data == "DATA"
    main = runpy.run_path(str(ROOT / program))["main"]
    main.__globals__.update({"SIZE": 32, "BATCH": 2, "SLICES": 4, "REPEAT": 2})
    assert main([str(disc_dataset)]) == 0
    shown = capsys.readouterr().out.splitlines()[-1 - torch.cuda.is_available()]
    one, both, on_device = map(float, re.findall(r"[\d.]+", shown))
    assert shown.startswith("cpu: slice by slice")
    assert one > 0
    assert both > on_device > 0


def test_what_is_not_asked_for_is_explained(capsys):
    main = runpy.run_path(str(ROOT / "docs" / "experiments" / "augmentation_time.py"))["main"]
    assert main(["--help"]) == 0
    assert main([]) == 2
    assert "augmentation_time.py DATA" in capsys.readouterr().out
