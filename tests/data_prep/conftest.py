"""Slices for the tests: made ones, and real ones where they are at hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from raw_files import slice_fields, write_v73

FIGSHARE = Path(__file__).resolve().parents[2].parent / "shared" / "figshare"
REAL_IDS = (1, 60, 211, 442, 950, 2000)  # among them the three views of one patient: 1, 211, 442


@pytest.fixture(scope="session")
def figshare() -> Path:
    """Folder with the parts of real slices."""
    if not (FIGSHARE / "build_mat.py").exists():
        pytest.skip("real slices are not at hand")
    return FIGSHARE


@pytest.fixture(scope="session")
def real_mats(figshare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few real slices and cvind.mat, made by the script that comes with the parts."""
    out = tmp_path_factory.mktemp("real")
    script = [sys.executable, str(figshare / "build_mat.py"), str(out), "--jobs", "1", "--ids"]
    subprocess.run(script + [str(number) for number in REAL_IDS], check=True, capture_output=True)
    return out


@pytest.fixture
def make_slices(tmp_path: Path) -> Callable[..., Path]:
    """Writes slices 1, 2, ... with the given PIDs into a folder; labels go 1, 2, 3, 1, ..."""

    def make(pids: list[str], folder: str = "raw", **changes: Any) -> Path:
        for i, pid in enumerate(pids):
            write_v73(tmp_path / folder / f"{i + 1}.mat", slice_fields(PID=pid, label=float(i % 3 + 1), **changes))
        return tmp_path / folder

    return make
