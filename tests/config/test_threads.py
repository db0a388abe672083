"""The number of threads of a run."""

from __future__ import annotations

import logging
import os

import pytest
import torch

from monai_kd.config import threads as module
from monai_kd.config.threads import choose_threads, free_cores, quota_cores


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(module, "_chosen", False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_given_number_counts_above_all(monkeypatch, caplog):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with caplog.at_level(logging.INFO):
        assert choose_threads(2) == torch.get_num_threads() == 2
    assert "threads: 2, as given" in caplog.text


def test_the_variable_is_left_alone(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    monkeypatch.setattr(module, "free_cores", lambda: 1 / 0)
    assert choose_threads() == torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("cores", "quota", "free", "expected", "warned"),
    [
        (8, None, 7.9, 8, False),
        (8, None, None, 8, False),  # a system that does not tell
        (8, None, 5.2, 5, True),
        (2, None, 0.1, 1, True),
        (8, 2.5, 8.0, 2, False),
        (8, 0.5, 8.0, 1, False),
        (4, 16.0, 3.6, 4, False),
    ],
)
def test_the_smallest_of_cores_quota_and_idle_cores(monkeypatch, caplog, cores, quota, free, expected, warned):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in (("available_cores", cores), ("quota_cores", quota), ("free_cores", free)):
        monkeypatch.setattr(module, name, lambda value=value: value)
    with caplog.at_level(logging.INFO):
        assert choose_threads() == torch.get_num_threads() == expected
    (record,) = caplog.records
    assert record.levelno == (logging.WARNING if warned else logging.INFO)
    assert ("Other jobs run on these cores" in record.getMessage()) is warned


def test_a_run_within_a_run_keeps_the_number(monkeypatch):
    choose_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(module, "free_cores", lambda: 1 / 0)
    assert choose_threads() == torch.get_num_threads() == 2
    assert choose_threads(1) == 1


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_other_values(wrong):
    with pytest.raises(ValueError, match="threads must be a whole number from 1"):
        choose_threads(wrong)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, 4.0),  # of a group above
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/host/path\n", {"cpu.max": "50000 100000"}, 0.5),  # a container that sees its own group as the root
        (
            "3:memory:/m\n2:cpu,cpuacct:/a\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
            2.0,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/a\n", {"a/cpu.max": "nonsense"}, None),
    ],
)
def test_quota_of_a_container(tmp_path, groups, files, expected):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    for name, content in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    assert quota_cores(tmp_path / "proc", tmp_path / "cgroup") == expected


def test_no_control_groups(tmp_path):
    assert quota_cores(tmp_path, tmp_path) is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs the affinity of Linux")
def test_idle_cores_of_the_affinity(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2})
    stat = tmp_path / "stat"
    stat.write_text("cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 10 0 0 90 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\ncpu2 5 0 5 5 5 0 0 0\n")

    def later(_seconds: float) -> None:
        # Core 0 was idle for 8 of 10 ticks, waiting for a disk included; core 2 for none, and core 1 is not ours.
        stat.write_text("cpu0 12 0 0 95 3 0 0 0 0 0\ncpu1 0 0 0 99 0 0 0 0\ncpu2 10 0 9 5 5 0 0 1\n")

    monkeypatch.setattr(module.time, "sleep", later)
    assert free_cores(stat=stat) == pytest.approx(0.8)
    assert free_cores(stat=tmp_path / "none") is None
