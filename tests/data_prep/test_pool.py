"""Functions in other processes, which may end."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import deadly
import pytest

from data_prep import child, pool


def test_results_errors_and_what_is_printed(capfd):
    process = child.ChildProcess()
    assert [process.call(deadly.double, number) for number in (1, 2)] == [2, 4]
    with pytest.raises(ValueError, match="not 3"):
        process.call(deadly.refuse, 3)
    with pytest.raises(RuntimeError, match="Awkward: not 4"):
        process.call(deadly.refuse_awkwardly, 4)
    assert process.call(deadly.double, 5) == 10
    process.close()
    assert process.call(deadly.double, 6) == 12, "it starts again"
    process.close()
    assert "printed by a library" in capfd.readouterr().err


@pytest.mark.parametrize(("function", "how"), [(deadly.end, "exit code 7"), (deadly.abort, "signal 6")])
def test_a_process_that_ended_is_replaced(function, how):
    process = child.ChildProcess()
    for _ in range(2):
        with pytest.raises(child.ChildDied, match=how):
            process.call(function, None)
    assert process.call(deadly.double, 4) == 8
    process.close()


def test_one_process_is_kept_for_the_next_call():
    first, second = (child.call(_number, 0) for _ in range(2))
    assert first == second != os.getpid()


def _number(_: object) -> int:
    return os.getpid()


def test_a_process_that_was_killed_for_others_sins_is_tried_again(tmp_path):
    assert child.call(deadly.end_once, tmp_path / "marker") == "done"
    with pytest.raises(child.ChildDied):
        child.call(deadly.end, None)
    assert list(pool.run(deadly.end_once, [tmp_path / "other"], 1, lambda job, how: how)) == ["done"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_ends_its_process_takes_no_other_with_it(workers):
    found = pool.run(deadly.end_at_three, range(12), workers, lambda job, how: -job)
    assert sorted(found) == sorted([-3, *(2 * number for number in range(12) if number != 3)])


def test_nothing_is_read_ahead_of_large_jobs():
    read, seen = [], []

    def jobs():
        for number in range(6):
            read.append(number)
            yield number

    for result in pool.run(deadly.double, jobs(), 2, lambda job, how: 0, lambda job: job >= 2):
        seen.append((result, len(read)))
    assert sorted(seen) == [(0, 3), (2, 3), (4, 3), (6, 4), (8, 5), (10, 6)]


def test_without_anything_to_say_of_it_a_dead_worker_is_an_error():
    with pytest.raises(pool.WorkerDied, match=r"died twice .signal 6"):
        list(pool.run(deadly.end_at_three, range(12), 2))


def test_a_process_that_can_not_start_is_no_files_fault(monkeypatch):
    monkeypatch.setattr(child, "BEGIN", "{path!r}; raise SystemExit(3)")
    monkeypatch.setattr(child, "_idle", [])
    with pytest.raises(pool.WorkerDied, match=r"could not be started .exit code 3"):
        list(pool.run(deadly.double, [1], 1, lambda job, how: 0))


def _in_a_fork(answers: multiprocessing.Queue) -> None:
    answers.put(child.call(deadly.double, 21))


def test_a_forked_daemon_has_processes_of_its_own():
    """As the workers of a DataLoader: forked while a process is at work, and not allowed to have children."""
    fork = multiprocessing.get_context("fork")
    child.call(deadly.double, 1)
    answers = fork.Queue()
    forked = fork.Process(target=_in_a_fork, args=(answers,), daemon=True)
    forked.start()
    assert answers.get(timeout=60) == 42
    forked.join()
    assert child.call(deadly.double, 2) == 4


def test_relative_paths_are_those_of_the_folder_of_now(tmp_path, monkeypatch):
    """A kept process was started in another folder, as in a notebook that changes its own."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        assert child.call(Path.read_text, Path("file")) == name
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert child.call(abs, -3) == 3
