"""A server and a browser that are shared by the tests of the page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from students import classification_student, segmentation_student

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120


def find(*names: str) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


BROWSER, DRIVER = find("chromium", "chromium-browser", "google-chrome"), find("chromedriver")


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """Of a server in a process of its own, on a free port."""
    pytest.importorskip("uvicorn", reason="needs monai_kd[serve]")
    students, log = tmp_path_factory.mktemp("students"), tmp_path_factory.mktemp("log") / "stderr.txt"
    for name in ("s", "c"):
        (students / name).mkdir()
    temporary = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-m", "monai_kd", "serve", "--port", "0", "--device", "cpu", "--max_upload_mb", "1"]
    # Some slices are then uncertain, and others not.
    command += ["--temperature", "0.03"]
    command += ["--segmentation", str(segmentation_student(students / "s", preset="demo"))]
    command += ["--classification", str(classification_student(students / "c"))]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with (
        open(log, "w") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        try:
            found = None
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    break
            assert found, log.read_text()
            yield found[0]
        finally:
            process.terminate()
            process.wait(SECONDS)
    assert not list(temporary.glob("monai_kd-serve-*"))
    assert "slice.nii.gz" not in log.read_text()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    if not (BROWSER and DRIVER):
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.add_argument("--window-size=1100,1300")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()
