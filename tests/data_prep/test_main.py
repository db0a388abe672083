"""The command line: exit codes and what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from raw_files import slice_fields, write_v73
from scipy.io import savemat

from data_prep.__main__ import main


def test_exit_codes(tmp_path: Path, make_slices: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    src = make_slices(["1", "2", "3"])
    out = str(tmp_path / "out")
    assert main(["figshare", str(src), out, "--workers", "1", "--strict"]) == 0
    said = capsys.readouterr()
    assert f"3 slices -> {out}/datalist.json" in said.out
    (src / "4.mat").write_bytes(b"")
    assert main(["figshare", str(src), out, "--workers", "1"]) == 0
    assert "4.mat: the file is empty" in capsys.readouterr().err
    assert main(["figshare", str(src), out, "--workers", "1", "--strict"]) == 1
    assert "error: 1 of 4 files were left out" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/1.mat").write_bytes(b"")
    assert main(["figshare", str(tmp_path / "empty"), str(tmp_path / "out2")]) == 1
    assert "nothing was converted" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["figshare", str(src), out, "--workers", "0"])
    assert stopped.value.code == 2


def test_phantoms_are_said_to_be_synthetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", str(tmp_path / "raw"), "--slices", "8", "--size", "64", "--workers", "1"]) == 0
    assert "SYNTHETIC" in capsys.readouterr().out
    assert main(["figshare", str(tmp_path / "raw"), str(tmp_path / "out")]) == 0
    assert "8 SYNTHETIC phantom slices" in capsys.readouterr().out
    assert main(["phantom", str(tmp_path / "raw"), "--slices", "9"]) == 1
    assert "other values" in capsys.readouterr().err


def test_benchmark(tmp_path: Path, make_slices: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", str(make_slices(["1", "2", "3"])), "--workers", "1"]) == 0
    table = capsys.readouterr().out
    rows = [line.split()[-4:] for line in table.splitlines()[1:]]
    assert [slices for slices, *_ in rows] == ["3", "3"]
    # Starting the worker alone, with NumPy and h5py, takes more than that.
    assert float(rows[1][1]) >= 0.1


def test_benchmark_of_what_the_plain_loop_cannot_read(
    tmp_path: Path, make_slices: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    src = make_slices(["1", "2", "3"])
    good = (src / "1.mat").read_bytes()
    others = {
        "old": lambda path: savemat(path, {"cjdata": slice_fields()}),
        "truncated": lambda path: path.write_bytes(good[: len(good) // 2]),
        "no mask": lambda path: write_v73(path, slice_fields(tumorMask=None)),
    }
    for write in others.values():
        write(src / "4.mat")
        assert main(["benchmark", str(src), "--workers", "1"]) == 1
        assert f"error: the plain loop cannot read {src / '4.mat'}" in capsys.readouterr().err
