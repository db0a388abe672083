"""What a killed server leaves behind goes when the next one starts; what a running one uses stays."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import pytest

from monai_kd.serve import temporary

pytestmark = pytest.mark.skipif(not temporary.HAS_LOCKS, reason="no file locks on this system")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def hold(answers) -> None:
    """What a server does while an upload is examined."""
    with temporary.upload_folder() as folder:
        (folder / "in").mkdir()
        (folder / "in" / "upload0000.dcm").write_text("DOE^JANE")
        answers.send(folder)
        signal.pause()


@pytest.fixture
def server():
    context = multiprocessing.get_context("fork")
    answers, sent = context.Pipe(duplex=False)
    process = context.Process(target=hold, args=(sent,))
    process.start()
    yield process, answers.recv()
    process.kill()
    process.join()


def test_a_killed_server(server, folder):
    process, used = server
    assert temporary.clear_leftovers() == []
    assert (used / "in" / "upload0000.dcm").exists()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert temporary.clear_leftovers() == [used]
    assert list(folder.iterdir()) == []


def test_nothing_is_left_after_an_upload(folder):
    def fails() -> None:
        with temporary.upload_folder() as used:
            (used / "a").write_text("a")
            assert temporary.clear_leftovers() == []
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert list(folder.iterdir()) == []


def test_only_own_folders(folder, monkeypatch):
    elsewhere = folder / "elsewhere"
    for name in ("elsewhere", "monai_kd-other", "monai_kd-serve-empty", "monai_kd-serve-full"):
        (folder / name).mkdir()
        if not name.endswith("empty"):
            (folder / name / "a").write_text("a")
    (folder / "monai_kd-serve-link").symlink_to(elsewhere)
    (folder / "monai_kd-serve-file").write_text("a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 12345)
        assert temporary.clear_leftovers() == []
    # An empty one may have been made just now, and not be locked yet.
    assert temporary.clear_leftovers() == [folder / "monai_kd-serve-full"]
    assert (elsewhere / "a").exists()
    assert len(list(folder.iterdir())) == 5
