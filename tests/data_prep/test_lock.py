"""A folder has one writer at a time, whoever dies."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from locks import started_and_waiting, taken

from data_prep.lock import FolderInUse, only_writer

REPOSITORY = Path(__file__).parents[2]
HOLDER = """
import os, sys, time
from data_prep.lock import only_writer
with only_writer(sys.argv[1]):
    if len(sys.argv) == 2 or os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(60)
"""


def holder(folder: Path, *fork: str) -> tuple[subprocess.Popen, int]:
    """A process that holds the folder, and the number of its forked child, or its own."""
    command = [sys.executable, "-c", HOLDER, str(folder), *fork]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_folder_is_free_before_and_after(tmp_path: Path) -> None:
    with only_writer(tmp_path / "new" / "folder"):
        assert taken(tmp_path / "new" / "folder")
        assert not taken(tmp_path / "new")
    assert not taken(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_an_exception_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), only_writer(tmp_path):
        raise KeyboardInterrupt
    assert not taken(tmp_path)


def test_the_second_one_is_told_what_to_do(tmp_path: Path) -> None:
    said = rf"^another process is writing into {tmp_path}: wait until it has ended, or choose another output_dir$"
    with only_writer(tmp_path), pytest.raises(FolderInUse, match=said), only_writer(tmp_path, "output_dir"):
        pass


def test_a_link_leads_to_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with only_writer(tmp_path / "folder"):
        assert taken(tmp_path / "link")


def test_threads_are_kept_apart_too(tmp_path: Path) -> None:
    found: list[bool] = []
    with only_writer(tmp_path):
        thread = threading.Thread(target=lambda: found.append(taken(tmp_path)))
        thread.start()
        thread.join()
    assert found == [True]


@pytest.mark.parametrize("fork", [(), ("fork",)], ids=["alone", "its-worker-lives-on"])
def test_a_killed_process_leaves_nothing_locked(tmp_path: Path, fork: tuple[str, ...]) -> None:
    process, child = holder(tmp_path, *fork)
    try:
        assert taken(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not taken(tmp_path)
    finally:
        if fork:
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.communicate()


def race(folder: Path, begin, results, rounds: int) -> None:
    """Both try at one instant; whoever has the folder keeps it until both have tried."""
    won = []
    for _ in range(rounds):
        begin.wait()
        try:
            with only_writer(folder):
                begin.wait()
                won.append(True)
        except FolderInUse:
            begin.wait()
            won.append(False)
    results.put(won)


def test_of_two_that_start_at_one_instant_one_wins(tmp_path: Path) -> None:
    spawn, rounds = multiprocessing.get_context("spawn"), 50
    begin, results = spawn.Barrier(2), spawn.Queue()
    both = [spawn.Process(target=race, args=(tmp_path, begin, results, rounds)) for _ in range(2)]
    for process in both:
        process.start()
    won = [results.get(timeout=60) for _ in both]
    for process in both:
        process.join()
    assert [sum(pair) for pair in zip(*won, strict=True)] == [1] * rounds


def contend(folder: Path, marker: Path, begin, results, rounds: int) -> None:
    """Take the folder as often as possible, and look whether anybody else is in it."""
    alone = entered = 0
    begin.wait()
    for _ in range(rounds):
        try:
            with only_writer(folder):
                entered += 1
                try:
                    os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    continue
                alone += 1
                marker.unlink()
        except FolderInUse:
            pass
    results.put((entered, alone))


def test_removing_the_file_lets_no_two_in(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    begin, results = spawn.Barrier(3), spawn.Queue()
    args = (tmp_path / "folder", tmp_path / "marker", begin, results, 3000)
    processes = [spawn.Process(target=contend, args=args) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sum(entered for entered, _ in found) > 100
    assert all(entered == alone for entered, alone in found)


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_system_without_locks(tmp_path: Path, monkeypatch, caplog, reason: int) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with only_writer(tmp_path):
        (tmp_path / "written").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["written"]
    assert f"file system without locks ({os.strerror(reason)}): don't start a second" in caplog.text


def test_a_folder_that_was_made_for_nothing_goes(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(ValueError, match="nothing was begun"), only_writer(folder):
        raise ValueError("nothing was begun")
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises(ValueError, match="nothing was begun"), only_writer(folder):
        raise ValueError("nothing was begun")
    assert folder.is_dir()

    def stopped_after_a_table() -> None:
        with only_writer(tmp_path / "other"):
            (tmp_path / "other" / "a.csv").touch()
            raise ValueError("after a table")

    with pytest.raises(ValueError, match="after a table"):
        stopped_after_a_table()
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["a.csv"]


def test_waiting_that_fails_leaves_the_lock_of_the_first(tmp_path, monkeypatch):
    with only_writer(tmp_path):
        lock, calls = fcntl.flock, []

        def fails_to_wait(descriptor: int, operation: int) -> None:
            calls.append(operation)
            if not operation & fcntl.LOCK_NB:
                raise OSError(errno.ENOLCK, "no locks available")
            lock(descriptor, operation)

        monkeypatch.setattr(fcntl, "flock", fails_to_wait)
        with pytest.raises(FolderInUse), only_writer(tmp_path, wait=True):
            pass
        assert len(calls) == 2
        assert (tmp_path / ".lock").is_file()


def test_the_second_one_may_wait(tmp_path, caplog):
    order, inside, leave = [], threading.Event(), threading.Event()

    def first() -> None:
        with only_writer(tmp_path):
            inside.set()
            assert leave.wait(10)
            order.append("first")

    def second() -> None:
        with only_writer(tmp_path, wait=True):
            order.append("second")

    holder = threading.Thread(target=first)
    holder.start()
    assert inside.wait(10)
    waiter = started_and_waiting(second, caplog)
    leave.set()
    for thread in (holder, waiter):
        thread.join(10)
    assert order == ["first", "second"]
    assert not taken(tmp_path)
