"""Files that appear whole or not at all: full disks, closed folders, long names, and what killed processes leave."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monai_kd.io import atomic
from monai_kd.io.atomic import atomic_folder, atomic_write, check_atomic_folder, clear_partial, write_json
from monai_kd.io.checkpoints import save_checkpoint


@pytest.fixture(scope="module")
def gone() -> int:
    """Number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk can't be mounted here")
    yield folder
    # torch may hold the file that it could not write
    subprocess.run(["umount", "-l", str(folder)], check=True)


class NoSpace:
    """As torch reports it when the disk is full."""

    def __reduce__(self):
        raise RuntimeError("basic_ios::clear: iostream error")


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk(small_disk):
    kept = small_disk / "model.pt"
    save_checkpoint({"a": torch.ones(10)}, kept)
    before = kept.read_bytes()
    with pytest.raises(OSError, match=r"a\.json can't be written: No space left.*2\.0 MB needed, 1\.0 MB free"):
        write_json("a" * 2_000_000, small_disk / "a.json")

    def package() -> None:
        with atomic_folder(small_disk / "package") as folder:
            (folder / "a").write_bytes(bytes(2**21))

    with pytest.raises(OSError, match=r"package can't be written: No space left"):
        package()
    with pytest.raises(OSError, match=r"model\.pt can't be written: No space left.*more than .* needed, 1\.0 MB free"):
        save_checkpoint({"a": torch.ones(10**6)}, kept)
    assert list(small_disk.iterdir()) == [kept]
    assert kept.read_bytes() == before


def test_a_mount_point_is_refused(small_disk):
    with pytest.raises(FileExistsError, match="disk is a mount point, which can't be replaced: choose a new folder"):
        check_atomic_folder(small_disk)
    check_atomic_folder(small_disk / "new")


def test_the_working_directory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    check_atomic_folder(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FileExistsError, match=r"here is the working directory.*choose a new folder"):
        check_atomic_folder(tmp_path / "here")


def test_a_full_disk_that_torch_does_not_name(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "PROBE", -1)  # bytes(-1) stands for the write that fails
    monkeypatch.setattr(atomic, "bytes", full, raising=False)
    with pytest.raises(OSError, match=r"model\.pt can't be written: No space left on device") as caught:
        save_checkpoint({"a": torch.zeros(9), "b": NoSpace()}, tmp_path / "model.pt")
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_a_full_disk_in_python(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"a\.json can't be written: No space left on device, 0\.0 kB needed, .* free"):
        write_json({}, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [lambda path: write_json({}, path), lambda path: save_checkpoint({}, path)])
def test_a_folder_that_can_not_be_made(write, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OSError, match=rf"{tmp_path}/out can't be written to: .*Choose another folder"):
        write(tmp_path / "out" / "a")


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    def forbidden(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_bytes", forbidden)
    with pytest.raises(OSError, match=rf"{tmp_path} can't be written to: Permission denied\. Choose another folder"):
        write_json({}, tmp_path / "a.json")


def test_other_errors_stay_what_they_are(tmp_path):
    def fails() -> None:
        with atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("half")
            (tmp_path / "absent").read_text()

    with pytest.raises(FileNotFoundError, match="absent"):
        fails()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["b" * 251 + ".csv", "ä" * 125 + ".json", "a." + "b" * 253, "b" * 255, ".b", "\udce9" * 255]
)
def test_names_as_long_as_names_may_be(name, tmp_path):
    with atomic_write(tmp_path / name) as temporary:
        temporary.write_text("a")
        assert len(os.fsencode(temporary.name)) <= 255
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_two_long_names_are_written_at_a_time(tmp_path):
    with atomic_write(tmp_path / ("b" * 200 + "1")) as one, atomic_write(tmp_path / ("b" * 200 + "2")) as other:
        assert one != other
        one.write_text("1")
        other.write_text("2")
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["1", "2"]


def test_what_killed_processes_left_is_removed(gone, tmp_path, caplog):
    left = [f".model.{gone}.partial.pt", f".a.b.{gone}.partial", f".line\nbreak.{gone}.partial.csv"]
    kept = [f".model.{os.getpid()}.partial.pt", "model.pt", ".hidden", f"model.{gone}.partial.pt", ".a.12x.partial.pt"]
    for name in (*left, *kept):
        (tmp_path / name).write_text("half")
    (tmp_path / f".partial-{gone}-x7").mkdir()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / left[0]).write_text("half")
    (tmp_path / f".link.{gone}.partial").symlink_to(tmp_path / "model.pt")
    clear_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "below", f".link.{gone}.partial"])
    assert len(list((tmp_path / "below").iterdir())) == 1
    assert caplog.text.count("half written by a process that was killed, is removed") == 4


def test_a_half_written_folder_is_removed_by_the_next_try(gone, tmp_path):
    """It lies in a folder that is not the run's own: what is of others stays."""
    own, other = tmp_path / f".partial-{gone}-a" / "package", tmp_path / f".partial-{gone}-b" / "other"
    running = tmp_path / f".partial-{os.getpid()}-c" / "package"
    for folder in (own, other, running):
        folder.mkdir(parents=True)
    with atomic_folder(tmp_path / "package") as folder:
        (folder / "a").write_text("a")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([other.parent.name, running.parent.name, "package"])
