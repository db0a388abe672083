"""Hashes of files: right, and not computed twice."""

from __future__ import annotations

import hashlib
import os

import pytest

from monai_kd.io import checksum
from monai_kd.io.checksum import file_sha256


@pytest.mark.parametrize("size", [0, 5, (1 << 20) + 1])
def test_equals_hashlib(tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_new_file_is_read_each_time(tmp_path):
    """Its size and its times may be the same after a change."""
    found = []
    for content in (b"one", b"two"):
        (tmp_path / "a").write_bytes(content)
        os.utime(tmp_path / "a", (1, 1))
        found.append(file_sha256(tmp_path / "a"))
    assert found == [hashlib.sha256(content).hexdigest() for content in (b"one", b"two")]


def test_a_settled_file_is_read_once(tmp_path, monkeypatch):
    read = []
    digest = checksum._digest
    monkeypatch.setattr(checksum, "_SETTLED", 0.0)
    monkeypatch.setattr(checksum, "_digest", lambda path: read.append(path) or digest(path))
    (tmp_path / "a").write_bytes(b"one")
    assert len({file_sha256(tmp_path / "a") for _ in range(3)}) == len(read) == 1
    (tmp_path / "a").write_bytes(b"other")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"other").hexdigest()
    assert len(read) == 2
    os.link(tmp_path / "a", tmp_path / "b")
    assert file_sha256(tmp_path / "b") == file_sha256(tmp_path / "a")
