"""The program that compares the reading of a store with a pass of the teacher, at small size."""

from __future__ import annotations

import runpy
import shlex
import shutil
from types import SimpleNamespace

import pytest
from documented import ROOT
from torch import nn


def test_store_and_live_teacher(lines, tmp_path, capsys):
    (line,) = lines
    _, program, folder = shlex.split(line)
    assert folder == "FOLDER"
    program = runpy.run_path(str(ROOT / program))
    sizes = []

    def remove(path):
        sizes.append(sum(file.stat().st_size for file in path.rglob("*.safetensors")) / 4e6)
        shutil.rmtree(path)

    program["main"].__globals__.update(
        {"SIZE": 16, "BATCH": 2, "BATCHES": 2, "MEGABYTES": (0.0005, 0.1), "shutil": SimpleNamespace(rmtree=remove)}
        | {"HybridUNet": nn.Identity, "TimmHybridUNet": lambda **_: nn.Identity()}
    )
    assert program["main"]([str(tmp_path)]) == 0
    rows = [[float(value) for value in row.split()] for row in capsys.readouterr().out.splitlines()[1:3]]
    assert [row[0] for row in rows] == [0.0005, 0.1]
    assert all(value > 0 for row in rows for value in row)
    # The files hold what the table says, and the names of their entries.
    assert sizes == [pytest.approx(0.0005, abs=0.0005), pytest.approx(0.1, rel=0.05)]
    assert not (tmp_path / "stores").exists()
