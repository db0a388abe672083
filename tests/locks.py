"""Whether a folder has a writer, and threads that wait for it."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.lock import FolderInUse, only_writer


def taken(folder: Path) -> bool:
    try:
        with only_writer(folder):
            return False
    except FolderInUse:
        return True


def started_and_waiting(target: Callable[[], object], caplog: pytest.LogCaptureFixture) -> threading.Thread:
    """A thread that has been started, and has logged that it waits until a folder is free."""
    caplog.set_level(logging.WARNING)
    thread = threading.Thread(target=target)
    thread.start()
    while "waiting until it has ended" not in caplog.text:
        assert thread.is_alive()
        time.sleep(0.01)
    return thread
