"""The lines that start the server, run as they are printed; each answers, and is stopped."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from students import classification_student, segmentation_student

pytest.importorskip("starlette", reason="needs monai_kd[serve]")
SECONDS = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, disc_dataset: Path) -> Path:
    """Where the lines are run: with the runs that they name, and a slice."""
    made = tmp_path_factory.mktemp("served")
    for name in ("student", "seg_student"):
        segmentation_student(made / "runs" / name)
    classification_student(made / "runs" / "cls_student")
    shutil.copy(disc_dataset / "images" / "0000.nii.gz", made / "slice.nii.gz")
    return made


@contextmanager
def served(line: str, folder: Path) -> Iterator[str]:
    """The address of a server in a process of its own, on a free port in place of 8000."""
    words = [sys.executable, *shlex.split(line)[1:], "--port", "0"]
    server = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said, address, begun = "", None, time.monotonic()
        while address is None:
            assert server.stdout is not None
            assert time.monotonic() < begun + SECONDS, said
            one = server.stdout.readline()
            assert one or server.poll() is None, said
            said += one
            address = re.search(r"http://127\.0\.0\.1:\d+", one)
        yield address[0]
    finally:
        server.terminate()
        server.wait(SECONDS)


def test_servers_of_the_readme(lines, folder):
    """With the networks of the repository, and with those of two runs."""
    assert len(lines) == 2
    for line in lines:
        with served(line, folder) as address, urllib.request.urlopen(address, timeout=SECONDS) as answer:
            assert answer.status == 200
            assert b"<html" in answer.read()


def test_page_of_the_server(lines, folder):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    serve, curl = lines
    with served(serve, folder) as address:
        asked = shlex.split(curl.replace("http://127.0.0.1:8000", address))
        answer = json.loads(subprocess.run(asked, cwd=folder, check=True, capture_output=True).stdout)
    assert len(answer["files"]) == 1
    assert "error" not in answer
