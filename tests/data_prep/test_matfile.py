"""Reading one .mat file: every layout, and every way in which it can be bad."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from raw_files import slice_fields, write_cvind, write_v73
from scipy.io import savemat

from data_prep.matfile import BadSlice, read_folds, read_slice


def test_real_slices_as_their_pictures_show_them(real_mats: Path, figshare: Path) -> None:
    with open(figshare / "slices.csv", newline="") as file:
        known = {row["id"]: row for row in csv.DictReader(file)}
    paths = [path for path in real_mats.glob("*.mat") if path.stem != "cvind"]
    assert len(paths) == 6
    for path in paths:
        raw = read_slice(path)
        picture = np.asarray(Image.open(figshare / "images" / f"{path.stem}.jpg").convert("L")).astype(float)
        mask = np.asarray(Image.open(figshare / "masks" / f"{path.stem}.png")).astype(bool)
        assert raw.image.dtype == np.int16
        # The builder multiplies by a gain and rounds, nothing else; a transposed head would not correlate like this.
        assert np.corrcoef(raw.image.ravel(), picture.ravel())[0, 1] > 0.9999
        assert not np.allclose(picture, picture.T)
        assert np.array_equal(raw.mask, mask)
        assert (str(raw.label), raw.pid) == (known[path.stem]["label"], known[path.stem]["pid"])
        rows, cols = np.nonzero(mask)
        x, y = raw.border.T
        # Pixel (row, col) counted from 0 has its centre at (col + 1, row + 1).
        assert np.abs([x.min() - 1 - cols.min(), x.max() - 1 - cols.max()]).max() < 1.5
        assert np.abs([y.min() - 1 - rows.min(), y.max() - 1 - rows.max()]).max() < 1.5
        assert not raw.synthetic


@pytest.mark.parametrize("shape", [(256, 256), (512, 512), (40, 56)])
def test_v73_is_transposed_back(tmp_path: Path, shape: tuple[int, int]) -> None:
    fields = slice_fields(*shape)
    raw = read_slice(write_v73(tmp_path / "1.mat", fields))
    assert raw.image.shape == shape
    assert np.array_equal(raw.image, fields["image"])
    assert np.array_equal(raw.mask, fields["tumorMask"] == 1)
    assert raw.border.tolist() == [[10.5, 5.5], [20.5, 5.5], [20.5, 25.5], [10.5, 25.5]]
    assert (raw.label, raw.pid) == (1, "100360")


def same_as(raw: Any, fields: dict[str, Any]) -> bool:
    return (
        np.array_equal(raw.image, fields["image"])
        and np.array_equal(raw.mask, fields["tumorMask"] == 1)
        and np.array_equal(raw.border.ravel(), fields["tumorBorder"].ravel())
        and (raw.label, raw.pid) == (1, "100360")
    )


def test_keys_at_root_and_no_user_block(tmp_path: Path) -> None:
    fields = slice_fields()
    assert same_as(read_slice(write_v73(tmp_path / "1.mat", fields, at_root=True)), fields)
    assert same_as(read_slice(write_v73(tmp_path / "2.mat", fields, user_block=0)), fields)


@pytest.mark.parametrize("at_root", [False, True])
def test_version_5_through_scipy(tmp_path: Path, at_root: bool) -> None:
    fields = slice_fields()
    savemat(tmp_path / "1.mat", fields if at_root else {"cjdata": fields}, do_compression=True)
    assert same_as(read_slice(tmp_path / "1.mat"), fields)
    assert same_as(read_slice((tmp_path / "1.mat").read_bytes(), "in memory"), fields)


@pytest.mark.parametrize(
    ("pid", "text"),
    [
        ("MR040240B", "MR040240B"),
        (100360.0, "100360"),
        (np.uint32(100360), "100360"),
        (np.array([[ord(c) for c in "MR040240B"]], float), "MR040240B"),  # codes without the attribute "char"
        ("7", "7"),
    ],
)
def test_pid_is_text(tmp_path: Path, pid: Any, text: str) -> None:
    assert read_slice(write_v73(tmp_path / "1.mat", slice_fields(PID=pid))).pid == text
    savemat(tmp_path / "2.mat", {"cjdata": slice_fields(PID=pid)})
    assert read_slice(tmp_path / "2.mat").pid == text


def test_mask_or_border_is_enough(tmp_path: Path) -> None:
    assert read_slice(write_v73(tmp_path / "1.mat", slice_fields(tumorMask=None))).mask is None
    assert read_slice(write_v73(tmp_path / "2.mat", slice_fields(tumorBorder=None))).border is None


def test_new_slices_need_only_an_image(tmp_path: Path) -> None:
    path = write_v73(tmp_path / "new.mat", {"image": slice_fields()["image"]})
    raw = read_slice(path, labelled=False)
    assert (raw.mask, raw.border, raw.label, raw.pid) == (None, None, None, None)
    assert raw.image.shape == (40, 56)
    with pytest.raises(BadSlice, match="no label"):
        read_slice(path)


def test_a_border_may_run_along_the_edge_of_the_image(tmp_path: Path) -> None:
    """Pixel centres count from 1: the image reaches from 0.5 to its size + 0.5, both inside."""
    around = [0.5, 0.5, 56.5, 0.5, 56.5, 40.5, 0.5, 40.5]
    raw = read_slice(write_v73(tmp_path / "1.mat", slice_fields(tumorBorder=border(*around))))
    assert raw.border.ravel().tolist() == around
    for place, value in ((0, 0.499), (1, 0.499), (2, 56.501), (5, 40.501)):
        outside = [*around[:place], value, *around[place + 1 :]]
        with pytest.raises(BadSlice, match="leaves the image"):
            read_slice(write_v73(tmp_path / "2.mat", slice_fields(tumorBorder=border(*outside))))


def with_pixel(value: float) -> np.ndarray:
    image = slice_fields()["image"].astype(float)
    image[3, 4] = value
    return image


def border(*points: float) -> np.ndarray:
    return np.array(points)[:, None]


BAD = [
    # changed fields, part of the reason
    ({"image": with_pixel(np.nan)}, "NaN or infinity in 1 pixels"),
    ({"image": with_pixel(np.inf)}, "NaN or infinity in 1 pixels"),
    ({"image": np.zeros((0, 0))}, "the image is empty"),
    ({"image": np.full((40, 56), 7)}, "constant .every pixel is 7"),
    ({"image": np.zeros((40, 56, 3))}, "shape .40, 56, 3"),
    ({"image": None}, "no struct cjdata and no field image|no field image"),
    ({"tumorBorder": np.zeros((0, 0))}, "tumorBorder is empty"),
    ({"tumorBorder": border(1, 2, 3, 4)}, "three points"),
    ({"tumorBorder": border(1, 2, 3, 4, 5, 6, 7)}, "tumorBorder has shape"),
    ({"tumorBorder": border(10, 10, 57, 10, 20, 20)}, "leaves the image: point x 57, y 10 in 56 columns, 40 rows"),
    ({"tumorBorder": border(10, 41, 20, 10, 30, 30)}, "leaves the image: point x 10, y 41"),
    ({"tumorBorder": border(10, 10, np.nan, 10, 20, 20)}, "leaves the image: point x nan"),
    ({"tumorMask": np.ones((56, 40))}, r"tumorMask has size \(56, 40\), the image \(40, 56\)"),
    ({"tumorMask": np.zeros((40, 56))}, "tumorMask is empty"),
    ({"tumorMask": np.arange(2240).reshape(40, 56)}, "more than two values"),
    ({"tumorMask": None, "tumorBorder": None}, "no tumorMask and no tumorBorder"),
    ({"label": 4.0}, "unknown label .4.0.; known are 1 meningioma"),
    ({"label": 1.5}, "unknown label"),
    ({"label": "one"}, "label holds no real numbers"),
    ({"label": None}, "no label"),
    ({"PID": None}, "no PID"),
    ({"PID": 3.5}, "neither text nor a whole number"),
    ({"PID": np.inf}, "neither text nor a whole number"),
    ({"PID": np.array([[65.0, np.inf]])}, "neither text nor a whole number"),
    ({"PID": np.array([[65.0, 2e6]])}, "no character codes"),
    ({"PID": np.array([[65.0, 7.0]])}, "no printable text"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD, ids=[reason[:40] for _, reason in BAD])
@pytest.mark.parametrize("version", ["7.3", "5"])
def test_bad_content(tmp_path: Path, changes: dict[str, Any], reason: str, version: str) -> None:
    path = tmp_path / "9.mat"
    if version == "5":
        savemat(path, {"cjdata": slice_fields(**changes)})
    else:
        write_v73(path, slice_fields(**changes))
    with pytest.raises(BadSlice, match=reason) as caught:
        read_slice(path)
    assert str(caught.value).startswith(str(path))


def test_bad_files(tmp_path: Path) -> None:
    good = write_v73(tmp_path / "good.mat", slice_fields(256, 256)).read_bytes()
    savemat(tmp_path / "old.mat", {"cjdata": slice_fields()}, do_compression=True)
    old = (tmp_path / "old.mat").read_bytes()
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["volume"] = np.ones(3)
    cases = [
        (b"", "the file is empty"),
        (good[:1000], "truncated"),
        (good[: len(good) // 2], "truncated"),
        (good[:-200], "truncated"),
        (old[: len(old) // 2], "not a readable .mat file"),
        (b"<html>Not found</html>" * 40, "not a readable .mat file"),
        ((tmp_path / "other.mat").read_bytes(), "no struct cjdata and no field image in it .it holds: volume"),
        (write_cvind(tmp_path / "cvind.mat", [1, 2]).read_bytes(), "holds fold numbers .cvind., not a slice"),
    ]
    for blob, reason in cases:
        with pytest.raises(BadSlice, match=reason):
            read_slice(blob, "case")
    with pytest.raises(BadSlice, match="No such file"):
        read_slice(tmp_path / "missing.mat")


def test_damaged_pixels(tmp_path: Path) -> None:
    path = tmp_path / "1.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        for name, value in slice_fields(64, 64).items():
            if name == "image":
                group.create_dataset(name, data=value.T, compression="gzip")
                offset = group[name].id.get_chunk_info(0).byte_offset
            elif not isinstance(value, str):
                group[name] = np.atleast_2d(value).T
        group["PID"] = np.array([[ord("7")], [ord("8")]], "u2")
    assert read_slice(path).pid == "78"
    blob = bytearray(path.read_bytes())
    start = blob.find(b"\x78", offset)  # zlib header of the one chunk
    blob[start + 10 : start + 60] = bytes(50)
    with pytest.raises(BadSlice, match=r"not a readable \.mat file"):
        read_slice(bytes(blob), "damaged")


def test_cvind(tmp_path: Path) -> None:
    assert read_folds(write_cvind(tmp_path / "cvind.mat", [1, 5, 2])).tolist() == [1, 5, 2]
    assert read_folds(write_v73(tmp_path / "1.mat", slice_fields())) is None
    savemat(tmp_path / "old.mat", {"cvind": [[1, 5, 2]]})
    assert read_folds(tmp_path / "old.mat").tolist() == [1, 5, 2]
