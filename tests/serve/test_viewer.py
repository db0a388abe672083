"""The viewer of the page, as a radiologist uses it: by mouse, by keyboard alone, and at the width of a phone."""

from __future__ import annotations

import io
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from slices import grey, pattern, write_dicom
from students import SIZE

pytest.importorskip("uvicorn", reason="needs monai_kd[serve]")
pytest.importorskip("selenium", reason="needs selenium")
from in_browser import dropped_folder, examined, saved, wait_until_done
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

SLICES = 6
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


def volume() -> nib.Nifti1Image:
    """A block at the patient's left and front whose brightness is that of its slice; axes run to the left, the back."""
    image = np.random.default_rng(0).normal(100, 10, (SIZE, SIZE, SLICES)).clip(0)
    for number in range(SLICES):
        image[20:28, 4:12, number] = 500 + 80 * number
    affine = np.diag([-0.5, -0.5, 4.0, 1.0])
    affine[:3, 3] = 8, 8, -10
    return nib.Nifti1Image(image.astype(np.int16), affine)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    image = volume()
    nib.save(image, folder / "volume.nii.gz")
    # The same voxels, stored the other way round.
    turned = nib.orientations.axcodes2ornt(("A", "R", "S"))
    ornt = nib.orientations.ornt_transform(nib.io_orientation(image.affine), turned)
    nib.save(image.as_reoriented(ornt), folder / "turned.nii.gz")
    noise = np.random.default_rng(0).normal(100, 30, (SIZE, SIZE)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.diag([-0.5, -0.5, 4.0, 1.0])), folder / "noise.nii")
    checks = (np.indices((SIZE, SIZE)).sum(0) % 2 * 100).astype(np.int16)
    nib.save(nib.Nifti1Image(checks, np.diag([-0.5, -0.5, 4.0, 1.0])), folder / "checks.nii")
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A study as it lies on a disc: two series in folders of their own, an index, a program, and a hidden file."""
    folder = tmp_path_factory.mktemp("disc") / "STUDY"
    for series, count in (("1.2.3", 3), ("1.2.4", 2)):
        for number in range(count):
            image = grey(pattern(SIZE, SIZE))
            place = folder / "DICOM" / f"SE{series[-1]}" / f"IM{number}"
            write_dicom(place, image, (0.0, 0.0, 5.0 * number), series=series, FrameOfReferenceUID="1.2.9")
    # Both series in one folder, as some archives export them.
    for number, series in enumerate(("1.2.5", "1.2.6")):
        write_dicom(folder / "MIXED" / f"I{number}", grey(pattern(SIZE, SIZE)), series=series)
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (folder / "VIEWER.EXE").write_bytes(b"MZ")
    (folder / ".hidden.png").write_bytes(b"x")
    return folder


@pytest.fixture
def shown(browser, address, files):
    """The result of the volume, with its canvas."""
    (result,) = examined(browser, address, files / "volume.nii.gz")
    yield result
    assert [each for each in browser.get_log("browser") if each["level"] == "SEVERE"] == []


def canvas(result):
    return result.find_element(By.TAG_NAME, "canvas")


def pixels(browser, result) -> np.ndarray:
    """What is drawn, (rows, columns, 3)."""
    script = """const c = arguments[0]; const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
      return [c.width, c.height, Array.from(d)];"""
    width, height, data = browser.execute_script(script, canvas(result))
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3].astype(int)


def outlined(picture: np.ndarray) -> int:
    """Pixels of the colour of the outline."""
    return int((np.abs(picture - [255, 82, 82]).sum(-1) < 60).sum())


def at(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """Mean colour around a place, by parts of the width and the height."""
    row, column = int(y * picture.shape[0]), int(x * picture.shape[1])
    return picture[row - 2 : row + 3, column - 2 : column + 3].mean((0, 1))


def counted(result) -> str:
    return result.find_element(By.CSS_SELECTOR, ".slider output").text


def test_slices_by_the_wheel_counted_from_1(browser, shown):
    assert f"Largest in\nslice {counted(shown)}\n" in shown.text, "it begins with the slice that the text describes"
    view = canvas(shown)
    for _ in range(SLICES + 1):
        ActionChains(browser).scroll_from_origin(origin_of(view), 0, -100).perform()
    assert counted(shown) == f"1 of {SLICES}"
    first = at(pixels(browser, shown), 0.75, 0.25)
    ActionChains(browser).scroll_from_origin(origin_of(view), 0, 100).perform()
    assert counted(shown) == f"2 of {SLICES}"
    assert "Slice 2 of 6" in view.get_attribute("aria-label")
    assert at(pixels(browser, shown), 0.75, 0.25)[0] > first[0] + 10, "the second slice is brighter"


def origin_of(element):
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    return ScrollOrigin.from_element(element)


@pytest.mark.parametrize("name", ["volume.nii.gz", "turned.nii.gz"])
def test_the_letters_are_those_of_the_patient(browser, address, files, name):
    """The block is at the left and in front: on the page at the letters L and A, however the file is stored."""
    (result,) = examined(browser, address, files / name)
    marks = {each.text: each.rect for each in result.find_elements(By.CLASS_NAME, "mark")}
    assert marks.keys() == {"L", "R", "A", "P"}
    assert marks["R"]["x"] < marks["A"]["x"] < marks["L"]["x"]
    assert marks["A"]["y"] < marks["L"]["y"] < marks["P"]["y"]
    picture = pixels(browser, result)
    for x, y in ((0.25, 0.25), (0.25, 0.75), (0.75, 0.75)):
        assert at(picture, 0.75, 0.25)[0] > 2 * at(picture, x, y)[0]
    assert "Left and right" not in result.text


def test_no_letters_where_left_is_not_known(browser, address, files):
    (result,) = examined(browser, address, files / "checks.nii")
    assert result.find_elements(By.CLASS_NAME, "mark") == []
    assert "not known: the file does not say how the slice lies" in result.text
    assert "Left and right are not known" in canvas(result).get_attribute("aria-label")


def test_dragging_changes_window_and_level(browser, shown):
    slice_, window, level, _ = (each.text for each in shown.find_elements(By.CSS_SELECTOR, ".slider output"))
    before = pixels(browser, shown)
    ActionChains(browser).drag_and_drop_by_offset(canvas(shown), -40, 0).perform()
    narrow, same = (each.text for each in shown.find_elements(By.CSS_SELECTOR, ".slider output")[1:3])
    assert number(narrow) < number(window)
    assert number(same) == pytest.approx(number(level), rel=0.02)
    ActionChains(browser).drag_and_drop_by_offset(canvas(shown), 0, 60).perform()
    higher = shown.find_elements(By.CSS_SELECTOR, ".slider output")[2].text
    assert number(higher) > number(level)
    after = pixels(browser, shown)
    assert at(after, 0.25, 0.75)[0] < at(before, 0.25, 0.75)[0], "a higher level makes the background darker"
    assert slice_ == counted(shown)
    button(shown, "Reset").click()
    np.testing.assert_array_equal(pixels(browser, shown), before)


def number(text: str) -> float:
    return float(text.replace(",", ""))


def button(result, text: str):
    return next(each for each in result.find_elements(By.TAG_NAME, "button") if each.text == text)


def test_outline_and_fill(browser, shown):
    with_outline = pixels(browser, shown)
    assert outlined(with_outline) > 100
    box = shown.find_element(By.CSS_SELECTOR, "input[type=checkbox]")
    box.click()
    bare = pixels(browser, shown)
    assert outlined(bare) == 0
    assert (bare[..., 0] == bare[..., 1]).all(), "grey without an outline"
    fill = shown.find_elements(By.CSS_SELECTOR, "input[type=range]")[3]
    for _ in range(8):
        fill.send_keys(Keys.ARROW_RIGHT)
    filled = pixels(browser, shown)
    red, green, _ = at(filled, 0.75, 0.25)
    assert red - green > 40
    assert (at(filled, 0.25, 0.75) == at(bare, 0.25, 0.75)).all(), "nothing is filled outside"
    box.click()
    assert outlined(pixels(browser, shown)) > 100


def test_enlarged_and_moved(browser, shown):
    small = pixels(browser, shown)
    for _ in range(4):
        button(shown, "+").click()
    large = pixels(browser, shown)
    assert outlined(large) != outlined(small)
    view = canvas(shown)
    ActionChains(browser).key_down(Keys.SHIFT).drag_and_drop_by_offset(view, -200, 200).key_up(Keys.SHIFT).perform()
    moved = pixels(browser, shown)
    # The block, at the right and top, comes towards the centre.
    assert at(moved, 0.5, 0.5)[0] > 2 * at(small, 0.5, 0.5)[0]
    button(shown, "Reset").click()
    np.testing.assert_array_equal(pixels(browser, shown), small)


def test_by_the_keyboard_alone(browser, address, files):
    (result,) = examined(browser, address, files / "volume.nii.gz")
    browser.execute_script("document.activeElement.blur()")
    reached = []
    for _ in range(30):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        active = browser.switch_to.active_element
        reached.append(active.get_attribute("id") or active.accessible_name or active.tag_name)
        if active.tag_name == "canvas":
            break
    assert reached[:2] == ["files", "folder"]
    view = browser.switch_to.active_element
    assert view.tag_name == "canvas"
    style = browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", view)
    assert style == "solid", "the focus is visible"

    def press(key: str) -> str:
        ActionChains(browser).send_keys(key).perform()
        return counted(result)

    assert press(Keys.HOME) == "1 of 6"
    assert press(Keys.PAGE_DOWN) == "2 of 6"
    assert press(Keys.ARROW_DOWN) == "3 of 6"
    assert press(Keys.PAGE_UP) == "2 of 6"
    assert press(Keys.END) == "6 of 6"
    assert press(Keys.PAGE_DOWN) == "6 of 6"
    before = pixels(browser, result)
    press("o")
    assert outlined(pixels(browser, result)) == 0
    press("o")
    press("f")
    assert at(pixels(browser, result), 0.75, 0.25)[0] - at(pixels(browser, result), 0.75, 0.25)[1] > 40
    for key in ("+", "+", "+", Keys.ARROW_RIGHT, Keys.ARROW_UP):
        assert press(key) == "6 of 6", "arrows move an enlarged slice"
    assert (pixels(browser, result) != before).any()
    press("0")
    np.testing.assert_array_equal(pixels(browser, result), before)
    # The rest is reached by the tabulator: sliders with names, the switch, buttons, links.
    names = []
    for _ in range(14):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        active = browser.switch_to.active_element
        names.append(active.accessible_name.split(" of ")[0] if active.tag_name != "a" else active.text)
    for name in ("Slice", "Window", "Level", "Fill", "Outline", "Smaller", "Larger", "Reset the view"):
        assert any(each.startswith(name) for each in names), (name, names)
    assert "volume_mask.nii.gz" in names


def test_at_the_width_of_a_phone(browser, address, files):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        (result,) = examined(browser, address, files / "volume.nii.gz")
        width, inner = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert width <= inner == 390, "nothing is scrolled sideways"
        assert canvas(result).size["width"] > 300
        for each in result.find_elements(By.CSS_SELECTOR, "input, button, a, canvas, .mark"):
            assert each.rect["x"] >= 0
            assert each.rect["x"] + each.rect["width"] <= 390
        for each in result.find_elements(By.TAG_NAME, "button"):
            assert min(each.size.values()) >= 32, "large enough for a finger"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_class_is_named_only_when_it_is_certain(browser, address, files):
    titles = {}
    for name in ("noise.nii", "checks.nii"):
        (result,) = examined(browser, address, files / name)
        best = max(
            float(share) for share in re.findall(r"([\d.]+)\s%", result.find_element(By.CLASS_NAME, "bars").text)
        )
        title = result.find_element(By.CSS_SELECTOR, ".class .main")
        titles[name] = title.text
        assert ("uncertain" in title.text) == (best < 60)
        assert len(result.find_elements(By.CSS_SELECTOR, "b.best")) == (best >= 60)
        weight = browser.execute_script("return getComputedStyle(arguments[0]).fontWeight", title)
        assert weight == ("600" if best >= 60 else "400")
        assert ("No class has a probability of 60" in result.text) == (best < 60 and "No tumour" not in result.text)
    assert sum("uncertain" in title for title in titles.values()) == 1, titles


SERIES = {"IM0 and 2 more": "3 of 3", "IM0 and 1 more": "2 of 2", "I0": None, "I1": None}


def check_study(browser, results) -> None:
    assert {each.find_element(By.TAG_NAME, "h2").text for each in results} == set(SERIES)
    assert browser.find_element(By.ID, "status").text == "Done: 4 examined. 3 other files of the folder left out."
    assert "could not be used" not in browser.find_element(By.ID, "results").text


def test_a_study_is_chosen_as_a_folder_and_saved_as_dicom(browser, address, study):
    hd = pytest.importorskip("highdicom")
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    results = examined(browser, address, study, control="folder")
    check_study(browser, results)
    (result,) = (each for each in results if each.find_element(By.TAG_NAME, "h2").text == "IM0 and 2 more")
    content = saved(browser, result, "IM0_seg.dcm")
    browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
    found = hd.seg.segread(io.BytesIO(content))
    assert found.NumberOfFrames == 3
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"
    np.testing.assert_array_equal(found.pixel_array[0] > 0, pattern(SIZE, SIZE))
    assert found.SegmentSequence[0].RecommendedDisplayCIELabValue


def test_a_study_is_dropped_as_a_folder(browser, address, study):
    browser.get(address)
    dropped_folder(browser, study)
    check_study(browser, wait_until_done(browser))
