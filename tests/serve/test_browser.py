"""The page in a real browser, from the command to the mask."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from students import CLASS_NAMES, SIZE, classification_student, segmentation_student

pytest.importorskip("uvicorn", reason="needs monai_kd[serve]")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
MARKUP = "<img src=x onerror=alert(1)>.png"


def find(*names: str) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


BROWSER, DRIVER = find("chromium", "chromium-browser", "google-chrome"), find("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver on the PATH")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a server in a process of its own, on a free port."""
    students, log = tmp_path_factory.mktemp("students"), tmp_path_factory.mktemp("log") / "stderr.txt"
    for name in ("s", "c"):
        (students / name).mkdir()
    temporary = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-m", "monai_kd", "serve", "--port", "0", "--device", "cpu", "--max_upload_mb", "1"]
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


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
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


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    image = np.random.default_rng(0).normal(100, 30, (SIZE, SIZE)).clip(0)
    image[8:16, 8:16] = 900
    nib.save(nib.Nifti1Image(image.astype(np.int16), np.diag([-0.5, -0.75, 4.0, 1.0])), folder / "slice.nii.gz")
    (folder / MARKUP).write_bytes(b"no picture")
    (folder / "big.png").write_bytes(bytes(2**20 + 1))
    return folder


def examined(browser, address: str, *paths: Path) -> list:
    """Results on the page after files were chosen by the button, in the order of the page."""
    browser.get(address)
    browser.find_element(By.ID, "files").send_keys("\n".join(map(str, paths)))
    status = browser.find_element(By.ID, "status")
    WebDriverWait(browser, SECONDS).until(lambda _: status.text.startswith("Done"))
    return browser.find_elements(By.CSS_SELECTOR, "#results article")


def test_a_slice(browser, address, files, tmp_path):
    (result,) = examined(browser, address, files / "slice.nii.gz")
    assert "Not a medical device" in browser.find_element(By.TAG_NAME, "body").text
    assert browser.find_element(By.ID, "synthetic").is_displayed()
    assert result.find_element(By.TAG_NAME, "h2").text == "slice.nii.gz"
    picture = result.find_element(By.TAG_NAME, "img")
    assert browser.execute_script("return arguments[0].complete && arguments[0].naturalWidth", picture) > 200
    assert picture.get_attribute("alt") == "Outline of the tumour"
    assert "Tumour: 24.0 mm²" in result.text
    (best,) = result.find_elements(By.CSS_SELECTOR, "b.best")
    assert f"Class: {best.text}" in result.text
    assert [bar.text for bar in result.find_elements(By.CSS_SELECTOR, ".bars b")] == CLASS_NAMES
    widths = [bar.size["width"] for bar in result.find_elements(By.CSS_SELECTOR, ".bars i > span")]
    shares = [float(share) for share in re.findall(r"([\d.]+)\s%", result.find_element(By.CLASS_NAME, "bars").text)]
    assert int(np.argmax(widths)) == int(np.argmax(shares)) == CLASS_NAMES.index(best.text)
    link = result.find_element(By.CSS_SELECTOR, "a[download]")
    read = """const [link, done] = arguments; fetch(link.href).then((answer) => answer.blob()).then((blob) => {
      const reader = new FileReader(); reader.onload = () => done(reader.result); reader.readAsDataURL(blob); },
      (error) => done(String(error)))"""
    assert link.get_attribute("download") == "slice_mask.nii.gz"
    assert browser.find_element(By.ID, "busy").is_displayed() is False
    assert browser.get_log("browser") == []
    # The page may ask its server alone, so that the test has to lift its policy to look into the mask.
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    (result,) = examined(browser, address, files / "slice.nii.gz")
    content = browser.execute_async_script(read, result.find_element(By.CSS_SELECTOR, "a[download]"))
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
    (tmp_path / "mask.nii.gz").write_bytes(base64.b64decode(content.split(",")[1]))
    mask = np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj)
    assert mask[8:16, 8:16].all()
    assert mask.sum() == 64


def test_what_is_refused_is_said(browser, address, files):
    results = examined(browser, address, files / "big.png", files / MARKUP, files / "slice.nii.gz")
    said = {each.find_element(By.TAG_NAME, "h2").text: each.text for each in results}
    assert "bigger than the 1 MB" in said["big.png"]
    assert "It could not be used: it can't be read as a picture" in said[MARKUP]
    assert "Tumour: 24.0 mm²" in said["slice.nii.gz"]
    assert browser.find_element(By.ID, "status").text == "Done: 1 examined, 2 could not be used."
    assert not browser.find_elements(By.CSS_SELECTOR, "#results img[src='x']")
    browser.find_element(By.ID, "clear").click()
    assert not browser.find_elements(By.CSS_SELECTOR, "#results article")
    # Chromium itself notes the status of an answer that is an error; the page must add nothing to that.
    assert all("422" in entry["message"] for entry in browser.get_log("browser"))


def test_dropped_on_the_zone(browser, address, files):
    browser.get(address)
    content = base64.b64encode((files / "slice.nii.gz").read_bytes()).decode()
    browser.execute_script(
        """const data = new DataTransfer();
        const bytes = Uint8Array.from(atob(arguments[0]), (character) => character.charCodeAt(0));
        data.items.add(new File([bytes], "dropped.nii.gz"));
        document.querySelector("#drop").dispatchEvent(
          new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));""",
        content,
    )
    WebDriverWait(browser, SECONDS).until(lambda _: browser.find_elements(By.CSS_SELECTOR, "#results .main"))
    assert "dropped.nii.gz" in browser.find_element(By.ID, "results").text


def test_the_keyboard_reaches_the_button(browser, address):
    browser.get(address)
    browser.find_element(By.TAG_NAME, "body").send_keys("\t")
    assert browser.switch_to.active_element.get_attribute("id") == "files"
