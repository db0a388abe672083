"""Full disks and folders that may not be written to: one line that says where, how much, and what to do."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep import disk, writers


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        (
            errno.ENOSPC,
            None,
            r"^\[Errno \d+\] .*/a\.csv can't be written: .*, 2\.5 MB needed, 8\.0 MB free\. Make room",
        ),
        (errno.EDQUOT, None, r"/a\.csv can't be written: .*, 2\.5 MB needed, 8\.0 MB free"),
        (errno.EFBIG, None, r"/a\.csv can't be written: .*, of more than 1\.0 MB\. Choose another disk"),
        (errno.EACCES, "a.csv.tmp", r"/out can't be written to: .*\. Choose another folder"),
        (errno.EROFS, "", r"/out can't be written to: .*\. Choose another folder"),
    ],
)
def test_messages(code, name, message, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 7 * 10**6))
    system = OSError(code, os.strerror(code)) if name is None else OSError(code, os.strerror(code), str(folder / name))
    found = disk.write_error(system, folder / "a.csv", written=10**6, needed=2_500_000)
    assert found is not None
    with pytest.raises(OSError, match=message):
        raise found
    assert found.errno == code
    assert "\n" not in str(found)
    # It has all to say already, and comes whole out of a worker process.
    assert disk.write_error(found, folder / "a.csv") is None
    assert str(pickle.loads(pickle.dumps(found))) == str(found)


@pytest.mark.parametrize(
    ("written", "said"), [(0, r"No space left on device, \S+ MB free"), (10**6, r", more than 1\.0 MB needed, ")]
)
def test_a_size_that_is_not_known_is_not_said(written, said, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 7 * 10**6))
    system = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=said):
        raise disk.write_error(system, tmp_path / "a.csv", written=written)


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "no file", "/x/a"), OSError(errno.EACCES, "no", "/x/a")])
def test_errors_of_other_files_are_left_alone(error, tmp_path):
    assert disk.write_error(error, tmp_path / "a.csv") is None


def test_whatever_the_system_says_of_a_folder(tmp_path, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error", str(tmp_path / "out" / ".probe"))

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(disk.WriteError, match=rf"{tmp_path}/out can't be written to: Input/output error\. Choose"):
        disk.check_writable(tmp_path / "out")


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("a file")
    for folder in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(disk.WriteError, match=rf"{folder} can't be written to: "):
            disk.check_writable(folder)
    disk.check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_write_file_on_a_full_disk(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("old")

    def half(path: Path, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content[:2])
        full()

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match=r"a\.csv can't be written: No space left on device, 0\.0 kB needed, .* free"):
        writers.write_file(tmp_path / "a.csv", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"


def test_half_written_files_of_processes_that_are_gone(tmp_path, caplog):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (f".a.csv.{gone.pid}.tmp", f".a.csv.{os.getpid()}.tmp", ".a.12b.tmp", ".notes.tmp", "a.1.tmp"):
        (tmp_path / name).write_text("half")
    writers.remove_temporary(tmp_path)
    assert not (tmp_path / f".a.csv.{gone.pid}.tmp").exists()
    assert len(list(tmp_path.iterdir())) == 4
    writers.remove_temporary(tmp_path, locked=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.12b.tmp", ".notes.tmp", "a.1.tmp"]
    assert f".a.csv.{gone.pid}.tmp, half written by a process that was killed, is removed" in caplog.text
