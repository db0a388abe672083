"""What tests of the page do with it in a browser."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 120
READ = """const [link, done] = arguments; fetch(link.href).then((answer) => answer.blob()).then((blob) => {
  const reader = new FileReader(); reader.onload = () => done(reader.result); reader.readAsDataURL(blob); },
  (error) => done(String(error)))"""


def wait_until_done(browser: Any) -> list:
    """Results on the page, in its order: the last examined image first."""
    status = browser.find_element(By.ID, "status")
    WebDriverWait(browser, SECONDS).until(lambda _: status.text.startswith("Done"))
    return browser.find_elements(By.CSS_SELECTOR, "#results article")


def examined(browser: Any, address: str, *paths: Path, control: str = "files") -> list:
    """Results on the page after files, or a folder, were chosen by the button."""
    browser.get(address)
    browser.find_element(By.ID, control).send_keys("\n".join(map(str, paths)))
    return wait_until_done(browser)


def saved(browser: Any, result: Any, name: str) -> bytes:
    """The file that a link of a result saves. The page may ask its server alone, so that its policy must be off."""
    (link,) = (each for each in result.find_elements(By.CSS_SELECTOR, "a[download]") if each.text == name)
    return base64.b64decode(browser.execute_async_script(READ, link).split(",")[1])


def dropped_folder(browser: Any, folder: Path) -> None:
    """Drop a folder on the zone, as a person does from a file manager."""
    box = browser.find_element(By.ID, "drop").rect
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    place = {"x": box["x"] + 20, "y": box["y"] + 20, "data": data}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, **place})
