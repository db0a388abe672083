"""The page in a real browser, from the command to the mask."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from students import CLASS_NAMES, SIZE

pytest.importorskip("uvicorn", reason="needs monai_kd[serve]")
pytest.importorskip("selenium", reason="needs selenium")
from in_browser import SECONDS, examined, saved
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

MARKUP = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    image = np.random.default_rng(0).normal(100, 30, (SIZE, SIZE)).clip(0)
    image[8:16, 8:16] = 900
    nib.save(nib.Nifti1Image(image.astype(np.int16), np.diag([-0.5, -0.75, 4.0, 1.0])), folder / "slice.nii.gz")
    (folder / MARKUP).write_bytes(b"no picture")
    (folder / "big.png").write_bytes(bytes(2**20 + 1))
    return folder


def test_a_slice(browser, address, files, tmp_path):
    (result,) = examined(browser, address, files / "slice.nii.gz")
    assert "Not a medical device" in browser.find_element(By.TAG_NAME, "body").text
    assert browser.find_element(By.ID, "synthetic").is_displayed()
    assert result.find_element(By.TAG_NAME, "h2").text == "slice.nii.gz"
    picture = result.find_element(By.TAG_NAME, "canvas")
    assert browser.execute_script("return arguments[0].width", picture) > 200
    assert "with an outline" in picture.get_attribute("aria-label")
    assert "Tumour: 24.0 mm²" in result.text
    assert [bar.text for bar in result.find_elements(By.CSS_SELECTOR, ".bars b")] == CLASS_NAMES
    widths = [bar.size["width"] for bar in result.find_elements(By.CSS_SELECTOR, ".bars i > span")]
    shares = [float(share) for share in re.findall(r"([\d.]+)\s%", result.find_element(By.CLASS_NAME, "bars").text)]
    assert int(np.argmax(widths)) == int(np.argmax(shares))
    assert browser.find_element(By.ID, "busy").is_displayed() is False
    assert browser.get_log("browser") == []
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    (result,) = examined(browser, address, files / "slice.nii.gz")
    (tmp_path / "mask.nii.gz").write_bytes(saved(browser, result, "slice_mask.nii.gz"))
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
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
