"""Whole conversions: what lands in the folder, what is said about bad files, and that a killed one goes on."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from raw_files import slice_fields, write_cvind, write_v73

from data_prep import journal
from data_prep.__main__ import main
from data_prep.convert import ConvertError, convert
from data_prep.dataset import read_manifest
from data_prep.writers import TEMPORARY

Make = Callable[..., Path]
REPOSITORY = Path(__file__).resolve().parents[2]


def manifest(dst: Path) -> dict[str, dict[str, str]]:
    with open(dst / "conversion.csv", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def datalist(dst: Path, name: str = "datalist.json") -> dict:
    return json.loads((dst / name).read_text())


def tree(dst: Path) -> dict[str, bytes]:
    return {str(path.relative_to(dst)): path.read_bytes() for path in dst.rglob("*") if path.is_file()}


def quick(src: Path, dst: Path, **options: object):
    return convert(src, dst, **{"workers": 1, "progress": False, **options})


def test_real_slices(real_mats: Path, figshare: Path, tmp_path: Path) -> None:
    summary = quick(real_mats, tmp_path / "out", format="both")
    assert (summary.converted, summary.bad, summary.how_folds) == (6, [], "cvind.mat")
    with open(figshare / "slices.csv", newline="") as file:
        known = {row["id"]: row for row in csv.DictReader(file)}
    for entry in datalist(tmp_path / "out")["training"]:
        number = entry["source"].removesuffix(".mat")
        assert entry["class"] == int(known[number]["label"]) - 1
        assert entry["patient"] == known[number]["pid"]
        assert entry["group"] == known[number]["group"]
        assert entry["fold"] == int(known[number]["fold"]) - 1
        volume = nib.load(tmp_path / "out" / entry["image"])
        label = nib.load(tmp_path / "out" / entry["label"])
        picture = np.asarray(Image.open(figshare / "images" / f"{number}.jpg").convert("L")).astype(float)
        mask = np.asarray(Image.open(figshare / "masks" / f"{number}.png"))
        assert volume.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(label.dataobj)[..., 0].T, mask)
        assert np.corrcoef(np.asarray(volume.dataobj)[..., 0].T.ravel(), picture.ravel())[0, 1] > 0.9999
        row = manifest(tmp_path / "out")[entry["source"]]
        assert float(row["mask_area_mm2"]) == pytest.approx(mask.sum() * 0.49**2, abs=0.01)
        assert (row["min"], row["max"]) == (str(np.min(volume.dataobj)), str(np.max(volume.dataobj)))


def test_geometry_and_both_formats(tmp_path: Path, make_slices: Make) -> None:
    image = np.full((40, 56), 100, np.int16)
    image[0, 0], image[0, -1], image[-1, 0] = 1100, 600, 0  # top left, top right, bottom left as MATLAB shows them
    src = make_slices(["1", "2", "3"], image=image)
    quick(src, tmp_path / "out", format="both")
    volume = nib.load(tmp_path / "out/images/0001.nii.gz")
    array = np.asarray(volume.dataobj)
    assert array.shape == (56, 40, 1)
    assert (array[0, 0, 0], array[-1, 0, 0], array[0, -1, 0]) == (1100, 600, 0)
    assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")  # right of the picture: patient's left; bottom: posterior
    assert np.allclose(volume.header.get_zooms(), (0.49, 0.49, 6))
    assert np.allclose(volume.affine, volume.header.get_qform())
    assert np.allclose(volume.affine, volume.header.get_sform())
    assert volume.header.get_xyzt_units()[0] == "mm"
    assert not volume.header["descrip"].item()
    picture = np.asarray(Image.open(tmp_path / "out/images/0001.png"))
    assert (picture[0, 0], picture[0, -1], picture[-1, 0]) == (255, round(255 * 600 / 1100), 0)
    assert set(np.unique(Image.open(tmp_path / "out/labels/0001.png"))) == {0, 255}
    nifti, png = datalist(tmp_path / "out"), datalist(tmp_path / "out", "datalist_png.json")
    assert (nifti["mask_value"], png["mask_value"]) == (1, 255)
    assert png["training"][0] == nifti["training"][0] | {"image": "images/0001.png", "label": "labels/0001.png"}


def test_monai_reads_the_same_array_from_both(tmp_path: Path, make_slices: Make) -> None:
    transforms = pytest.importorskip("monai.transforms")
    data = pytest.importorskip("monai.data")
    src = make_slices(["1", "2", "3"])
    quick(src, tmp_path / "out", format="both")
    arrays = {}
    for name in ("datalist.json", "datalist_png.json"):
        entry = data.load_decathlon_datalist(str(tmp_path / "out" / name), True, "training")[0]
        image = transforms.LoadImage()(entry["image"]).numpy().reshape(56, 40).astype(float)
        label = transforms.LoadImage()(entry["label"]).numpy().reshape(56, 40)
        arrays[name] = (image - image.min()) / (image.max() - image.min()), label > 0
    (nifti, nifti_label), (png, png_label) = arrays.values()
    assert np.abs(nifti - png).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(nifti_label, png_label)
    assert nifti_label[10:20, 5:25].all()
    assert nifti_label.sum() == 200


def test_a_network_is_given_the_same_array_from_both(tmp_path: Path) -> None:
    """The student bundle's own transforms, on 52 grey values, which 8 bits hold without loss."""
    bundle = pytest.importorskip("monai.bundle")
    image = 100 + 4 * (np.arange(40 * 56).reshape(40, 56) * 7 % 52).astype(np.int16)
    write_v73(tmp_path / "raw/1.mat", slice_fields(image=image))
    quick(tmp_path / "raw", tmp_path / "out", format="both", split="slice")
    parser = bundle.ConfigParser()
    parser.read_config(REPOSITORY / "bundles/seg_student/configs/train.json")
    values = {"image_size": 32, "preset": "full", "given_data": False, "mask_value": {1: 1, 255: 1}}
    parser.update({"bundle_root": str(REPOSITORY / "bundles/seg_student"), **values})
    prepare = parser.get_parsed_content("validate#preprocessing")
    nifti, png = (
        prepare({key: tmp_path / "out" / f"{key}s/0001{suffix}" for key in ("image", "label")})
        for suffix in (".nii.gz", ".png")
    )
    assert nifti["image"].shape == (3, 32, 32)
    assert nifti["image"].std() > 0.1
    np.testing.assert_allclose(png["image"], nifti["image"], atol=1e-5)
    assert 0 < nifti["label"].sum() < 32 * 32
    np.testing.assert_array_equal(png["label"], nifti["label"])


def test_image_sizes_mixed_and_number_types_kept(tmp_path: Path) -> None:
    for number, (size, dtype) in enumerate([(256, "int16"), (512, "int16"), (300, "uint16"), (64, "float64")], 1):
        image = np.arange(size * size).reshape(size, size) % 30000
        write_v73(tmp_path / f"raw/{number}.mat", slice_fields(size, size, image=image.astype(dtype), PID=str(number)))
        quick_row = (str(size), dtype)
        summary = quick(tmp_path / "raw", tmp_path / f"out{number}")
        assert summary.converted == number
        volume = nib.load(tmp_path / f"out{number}/images/{number:04d}.nii.gz")
        assert (manifest(tmp_path / f"out{number}")[f"{number}.mat"]["rows"], volume.get_data_dtype().name) == quick_row
        assert np.array_equal(np.asarray(volume.dataobj)[..., 0].T, image)


def test_mask_from_border_and_disagreement(tmp_path: Path) -> None:
    write_v73(tmp_path / "raw/1.mat", slice_fields(tumorMask=None))
    write_v73(tmp_path / "raw/2.mat", slice_fields(tumorMask=np.roll(slice_fields()["tumorMask"], 4, axis=1)))
    write_v73(tmp_path / "raw/3.mat", slice_fields(tumorBorder=None))
    summary = quick(tmp_path / "raw", tmp_path / "out")
    rows = manifest(tmp_path / "out")
    assert summary.bad == []
    assert rows["1.mat"]["reason"] == "mask made from the border"
    # 200 pixels each, 120 in common.
    assert rows["2.mat"]["reason"] == "mask and border disagree (Dice 0.600): the mask is used"
    assert rows["3.mat"]["reason"] == "no border: mask not cross-checked"
    label = np.asarray(nib.load(tmp_path / "out/labels/0001.nii.gz").dataobj)[..., 0].T
    assert np.array_equal(label, slice_fields()["tumorMask"])
    assert np.asarray(nib.load(tmp_path / "out/labels/0002.nii.gz").dataobj)[14:24, 5:25].all()


def test_archives_give_what_the_folder_gives(tmp_path: Path, make_slices: Make) -> None:
    src = make_slices(["1", "2", "3", "4"])
    write_cvind(src / "cvind.mat", [1, 2, 1, 2, 2, 2])
    with zipfile.ZipFile(tmp_path / "part.zip", "w", zipfile.ZIP_DEFLATED) as part:
        for number in (1, 2, 3, 4):
            part.write(src / f"{number}.mat", f"{number}.mat")
    (tmp_path / "zips").mkdir()
    with zipfile.ZipFile(tmp_path / "zips/all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "part.zip", "part.zip")
        archive.write(src / "cvind.mat", "cvind.mat")
    quick(src, tmp_path / "from_folder")
    quick(tmp_path / "zips/all.zip", tmp_path / "from_zip")
    one, other = tree(tmp_path / "from_folder"), tree(tmp_path / "from_zip")
    assert len(one) == 10
    assert {k: v for k, v in one.items() if k.endswith(".gz")} == {k: v for k, v in other.items() if k.endswith(".gz")}
    entries = datalist(tmp_path / "from_zip")["training"]
    assert entries[0]["source"] == "all.zip/part.zip/1.mat"
    assert [entry["fold"] for entry in entries] == [0, 1, 0, 1]
    again = quick(tmp_path / "zips/all.zip", tmp_path / "from_zip")
    assert again.reused == 4
    assert tree(tmp_path / "from_zip") == other


def test_bad_files_are_named_and_the_rest_converted(tmp_path: Path, make_slices: Make) -> None:
    src = make_slices(["1", "2", "3"])
    (src / "4.mat").write_bytes((src / "1.mat").read_bytes()[:900])
    shutil.copytree(src, src / "again", ignore=lambda *_: ["2.mat", "3.mat", "4.mat"])
    (src / "broken.zip").write_bytes(b"PK no archive")
    summary = quick(src, tmp_path / "out")
    rows = manifest(tmp_path / "out")
    assert summary.converted == 3
    assert [file for file, _ in summary.bad] == ["4.mat", "broken.zip", "again/1.mat"]
    assert (rows["4.mat"]["status"], rows["again/1.mat"]["status"]) == ("bad", "duplicate")
    assert "truncated" in rows["4.mat"]["reason"]
    assert "slice 0001 was already found in 1.mat" in rows["again/1.mat"]["reason"]
    assert "not a readable zip archive" in rows["broken.zip"]["reason"]
    with pytest.raises(ConvertError, match="3 of 6 files were left out"):
        quick(src, tmp_path / "strict", strict=True)
    assert tree(tmp_path / "strict") == tree(tmp_path / "out"), "strict converts the rest all the same"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_usable_file_of_a_number_is_taken(tmp_path: Path, make_slices: Make, workers: int) -> None:
    pids = [str(number) for number in range(20)]
    good = make_slices(pids)
    parts = {"part1.zip": b"truncated", "part2.zip": b"", "part3.zip": b""}
    parts["part2.zip"] = (good / "12.mat").read_bytes()
    parts["part3.zip"] = write_v73(tmp_path / "12.mat", slice_fields(PID="other")).read_bytes()
    for name, content in parts.items():
        with zipfile.ZipFile(good / name, "w") as archive:
            archive.writestr("12.mat", content)
            archive.writestr("13.mat", (good / "13.mat").read_bytes())
    (good / "12.mat").unlink()
    summary = quick(good, tmp_path / "out", workers=workers)
    rows = manifest(tmp_path / "out")
    assert summary.converted == 20
    assert [rows[f"{name}/12.mat"]["status"] for name in parts] == ["bad", "ok", "duplicate"]
    assert "already found in part2.zip/12.mat, with other content" in rows["part3.zip/12.mat"]["reason"]
    assert "already found in 13.mat, with the same content" in rows["part3.zip/13.mat"]["reason"]
    assert len(datalist(tmp_path / "out")["training"]) == 20
    before = tree(tmp_path / "out")
    assert quick(good, tmp_path / "out", workers=workers).reused == 20
    assert tree(tmp_path / "out") == before


def test_a_damaged_file_in_an_archive_does_not_stop_the_others(tmp_path: Path, make_slices: Make) -> None:
    src = make_slices(["1", "2", "3"])
    with zipfile.ZipFile(src / "part.zip", "w", zipfile.ZIP_LZMA) as archive:
        for number in (4, 5, 6):
            archive.write(src / "1.mat", f"{number}.mat")
        places = [info.header_offset for info in archive.infolist()]
    blob = bytearray((src / "part.zip").read_bytes())
    blob[places[0] + 60 : places[0] + 90] = bytes(30)
    (src / "part.zip").write_bytes(blob)
    summary = quick(src, tmp_path / "out")
    assert summary.converted == 5
    assert [file for file, _ in summary.bad] == ["part.zip/4.mat"]
    assert "cannot be read (" in summary.bad[0][1]


def test_names_that_give_one_number(tmp_path: Path) -> None:
    write_v73(tmp_path / "raw/a b.mat", slice_fields())
    write_v73(tmp_path / "raw/a_b.mat", slice_fields(PID="2"))
    summary = quick(tmp_path / "raw", tmp_path / "out")
    assert [file for file, _ in summary.bad] == ["a_b.mat"]
    assert (
        "found in a b.mat, with other content: only that one is used; give this file another name"
        in (summary.bad[0][1])
    )


def test_another_file_of_a_number_is_not_taken_for_the_one_in_the_folder(tmp_path: Path, make_slices: Make) -> None:
    """The output always is that of the file named in the manifest, whichever of two was usable when."""
    src, out = make_slices(["1", "2"]), tmp_path / "out"
    first, second = src / "1.mat", src / "again/1.mat"
    good = first.read_bytes()
    write_v73(second, slice_fields(PID="other", image=slice_fields()["image"] + 5))
    first.write_bytes(b"spoilt")
    quick(src, out)
    assert manifest(out)["again/1.mat"]["status"] == "ok"
    # Mended, converted, and killed before the lists are written: the manifest names one file, the journal the other.
    first.write_bytes(good)
    quick(src, tmp_path / "other")
    for folder in ("images", "labels"):
        shutil.copy(tmp_path / f"other/{folder}/0001.nii.gz", out / folder)
    log = [{"format": "nifti", "layout": 1}, {k: v for k, v in manifest(tmp_path / "other")["1.mat"].items() if v}]
    (out / journal.NAME).write_text("".join(json.dumps(line) + "\n" for line in log))
    first.write_bytes(b"spoilt")
    assert quick(src, out).reused == 1
    assert np.min(nib.load(out / "images/0001.nii.gz").dataobj) == 5
    first.write_bytes(good)
    quick(src, out)
    assert tree(out) == tree(tmp_path / "other")


def test_two_cvinds(tmp_path: Path, make_slices: Make) -> None:
    src = make_slices(["1", "2"])
    write_cvind(src / "a_cvind.mat", [2, 1])
    write_cvind(src / "b_cvind.mat", [1, 2])
    write_cvind(src / "c_cvind.mat", [2, 1])
    summary = quick(src, tmp_path / "out")
    assert [entry["fold"] for entry in datalist(tmp_path / "out")["training"]] == [1, 0]
    assert summary.bad == [("b_cvind.mat", "other fold numbers than in a_cvind.mat: those are used")]


def test_cvind_that_splits_a_group(tmp_path: Path, make_slices: Make, caplog: pytest.LogCaptureFixture) -> None:
    src = make_slices(["MR040240", "MR040240", "MR040240B", "5"])
    write_cvind(src / "cvind.mat", [1, 1, 2, 2, 1])
    quick(src, tmp_path / "out")
    out = datalist(tmp_path / "out")
    assert [entry["fold"] for entry in out["training"]] == [0, 0, 0, 1]
    assert {entry["group"] for entry in out["training"][:3]} == {"MR040240"}
    assert "moved to keep its group together" in manifest(tmp_path / "out")["3.mat"]["reason"]
    assert "splits 1 groups" in caplog.text
    before = tree(tmp_path / "out")
    assert quick(src, tmp_path / "out").reused == 4
    assert tree(tmp_path / "out") == before, "notes on folds do not pile up"
    quick(src, tmp_path / "out", split="slice", folds_n=2)
    assert datalist(tmp_path / "out")["folds"] == "by slice (leaks patients)"
    assert "leak" not in manifest(tmp_path / "out")["3.mat"]["reason"]
    assert manifest(tmp_path / "out")["3.mat"]["reason"] == ""


def test_nothing_converted(tmp_path: Path) -> None:
    src = tmp_path / "raw"
    write_v73(src / "1.mat", slice_fields(label=9.0))
    write_cvind(src / "cvind.mat", [1])
    with pytest.raises(ConvertError, match=r"(?s)nothing was converted.*1\.mat: unknown label"):
        quick(src, tmp_path / "out")
    assert manifest(tmp_path / "out")["1.mat"]["status"] == "bad"
    assert not (tmp_path / "out/datalist.json").exists()


def test_wrong_calls(tmp_path: Path, make_slices: Make) -> None:
    src = make_slices(["1", "2", "3"])
    with pytest.raises(ConvertError, match="does not exist"):
        quick(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ConvertError, match="format must be one of"):
        quick(src, tmp_path / "out", format="jpeg")
    with pytest.raises(ConvertError, match="split must be"):
        quick(src, tmp_path / "out", split="random")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConvertError, match="--folds-n takes 2 to 3"):
        quick(src, tmp_path / "out", folds_n=4)
    assert quick(src, tmp_path / "out", folds_n=3).reused == 3, "the failed try is not lost"
    with pytest.raises(ConvertError, match=r"other settings \(format 'nifti', now 'png'"):
        quick(src, tmp_path / "out", format="png")
    write_v73(tmp_path / "elsewhere/8.mat", slice_fields())
    with pytest.raises(ConvertError, match="holds 3 slices that are not in SRC"):
        quick(tmp_path / "elsewhere", tmp_path / "out")
    assert not (tmp_path / "out" / journal.NAME).exists()
    assert quick(src, tmp_path / "out", folds_n=3).reused == 3, "refusals leave the folder as it was"
    (tmp_path / "file").write_text("")
    with pytest.raises(ConvertError, match="is a file"):
        quick(src, tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("datalist.json", '{"training": [{"image": "a.nii.gz", "fold": 0}]}', "was not written by data_prep"),
        ("datalist.json", '{"settings": {"format": "nif', "is damaged"),
        pytest.param("datalist.json", "[" * 100_000, "is damaged", id="deep data list"),
        ("datalist.json", '["a.nii.gz"]', "was not written by data_prep"),
        ("conversion.csv", "date,from,to\n\xe9,2026-01-01,EUR,USD\n", "was not written by data_prep"),
        ("conversion.csv", "file,status,id\n1.mat,ok,0001\n", "is damaged"),
        (journal.NAME, "not JSON, not UTF-8: \xe9\n", "is damaged: delete it"),
        (journal.NAME, '{"format": "nifti", "layout": 1}\n{"file": "1.mat"}\n', "is damaged: delete it"),
        pytest.param(journal.NAME, "[" * 100_000 + "\n", "is damaged: delete it", id="deep journal"),
        (journal.NAME, '{"format": "nifti", "layout": 1}\n{"file": "1.m\n', "is damaged: delete it"),
    ],
)
def test_a_foreign_or_damaged_list_is_refused_and_kept(
    tmp_path: Path, make_slices: Make, name: str, content: str, message: str
) -> None:
    src, path = make_slices(["1", "2", "3"]), tmp_path / "out" / name
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConvertError, match=f"{name} .*{message}"):
        quick(src, tmp_path / "out")
    assert path.read_bytes() == content.encode("latin-1")
    path.unlink()
    assert quick(src, tmp_path / "out").converted == 3


def test_half_written_lists_are_cleared_away(tmp_path: Path, make_slices: Make) -> None:
    src, out = make_slices(["1", "2", "3"]), tmp_path / "out"
    out.mkdir()
    (out / f".conversion.csv.4711{TEMPORARY}").write_text("file,sta")
    (out / f".somebody's{TEMPORARY}").write_text("kept")
    quick(src, out)
    assert [path.name for path in out.glob(".*")] == [f".somebody's{TEMPORARY}"]


def test_a_folder_that_may_not_be_read_is_said(
    tmp_path: Path, make_slices: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    src = make_slices(["1", "2", "3"])
    for name in ("closed", ".hidden"):
        (src / name).mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name in ("closed", ".hidden"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    summary = quick(src, tmp_path / "out")
    assert (summary.converted, [file for file, _ in summary.bad]) == (3, ["closed"])
    assert "the folder cannot be read (Permission denied)" in manifest(tmp_path / "out")["closed"]["reason"]
    with pytest.raises(ConvertError, match="closed cannot be read"):
        quick(src / "closed", tmp_path / "other")


def test_second_conversion_into_one_folder_is_refused(tmp_path: Path, make_slices: Make) -> None:
    src = make_slices(["1", "2"])
    (tmp_path / "out").mkdir()
    with (
        journal.open_journal(tmp_path / "out", {"format": "nifti", "layout": 1}),
        pytest.raises(ConvertError, match=r"another process is writing into .*out: wait"),
    ):
        quick(src, tmp_path / "out")


def test_changed_and_spoilt_sources(tmp_path: Path, make_slices: Make) -> None:
    src = make_slices(["1", "2", "3"])
    quick(src, tmp_path / "out")
    write_v73(src / "2.mat", slice_fields(label=2.0, PID="2", image=slice_fields()["image"] + 5))
    (src / "3.mat").write_bytes(b"spoilt")
    summary = quick(src, tmp_path / "out")
    assert (summary.converted, summary.reused) == (2, 1)
    assert np.min(nib.load(tmp_path / "out/images/0002.nii.gz").dataobj) == 5
    assert not (tmp_path / "out/images/0003.nii.gz").exists()
    (tmp_path / "out/labels/0001.nii.gz").unlink()
    assert quick(src, tmp_path / "out").reused == 1, "a missing output is made again"
    assert (tmp_path / "out/labels/0001.nii.gz").exists()


def many_slices(src: Path, count: int) -> Path:
    image = np.random.default_rng(0).integers(0, 5000, (512, 512)).astype(np.int16)
    for number in range(1, count + 1):
        write_v73(
            src / f"{number}.mat", slice_fields(512, 512, image=image, PID=str(number // 3), label=number % 3 + 1.0)
        )
    return src


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_and_started_again_gives_the_same_bytes(tmp_path: Path) -> None:
    src = many_slices(tmp_path / "raw", 150)
    (src / "151.mat").write_bytes(b"no slice")
    (src / "again").mkdir()
    for number in (7, 90):
        (src / f"{number}.mat").rename(src / f"again/{number}.mat")
        (src / f"{number}.mat").write_bytes(b"spoilt")
    out, log = tmp_path / "out", tmp_path / "out" / journal.NAME
    command = [sys.executable, "-m", "data_prep", "figshare", str(src), str(out), "--workers", "2"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: lines_of(log) > 20)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = lines_of(log) - 1
    assert 20 <= done < 150
    assert not (out / "datalist.json").exists()
    with open(log, "a") as file:
        file.write('{"file": "149.mat", "sta')  # as if killed in the middle of a line
    (out / "images" / f".0140.nii.gz.1{TEMPORARY}").write_bytes(b"half a file")
    kept = (out / "images/0001.nii.gz").stat().st_mtime_ns

    summary = convert(src, out, workers=2, progress=False)
    assert summary.reused == done
    assert summary.converted == 150
    assert (out / "images/0001.nii.gz").stat().st_mtime_ns == kept
    quick(src, tmp_path / "undisturbed")
    assert tree(out) == tree(tmp_path / "undisturbed")
    assert not log.exists()
    before = tree(out)
    assert quick(src, out).reused == 150
    assert tree(out) == before


def test_names_of_files_are_shown_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Formulas, control characters, directions of writing and bytes that are no text, all allowed in names."""
    src, out = tmp_path / "raw", tmp_path / "out"
    names = ["=1+1.mat", "-a.mat", "\u202ex.mat", "a\nb.mat", "\x1b[2J.mat", os.fsdecode(b"caf\xe9.mat"), r"a\x41.mat"]
    for number, name in enumerate(names):
        write_v73(src / name, slice_fields(PID=str(number)))
    bad = [name.replace(".mat", "bad.mat") for name in names]
    for name in bad:
        (src / name).write_bytes(b"no slice")
    assert main(["figshare", str(src), str(out), "--workers", "1"]) == 0
    said = capsys.readouterr()
    shown = said.out + said.err[said.err.index("files left out") :]
    assert shown.replace("\n", "").isprintable()
    assert r"  \u202exbad.mat: " in shown
    assert r"  a\x0abbad.mat: " in shown
    raw = (out / "conversion.csv").read_text(encoding="utf-8")
    assert raw.replace("\n", "").isprintable()
    assert not [line for line in raw.splitlines() if line.startswith(("=", "+", "-", "@"))]
    assert {row["file"] for row in read_manifest(out)} == {*names, *bad}
    assert sorted(entry["source"] for entry in datalist(out)["training"]) == sorted(names)
    before = tree(out)
    assert quick(src, out).reused == len(names)
    assert tree(out) == before


def test_long_names_of_files(tmp_path: Path) -> None:
    src, out = tmp_path / "raw", tmp_path / "out"
    names = ["b" * 251 + ".mat", "b" * 250 + "c.mat", "b" * 200 + ".mat"]
    for number, name in enumerate(names):
        write_v73(src / name, slice_fields(PID=str(number)))
    assert quick(src, out, format="both").converted == 3
    ids = {row["file"]: row["id"] for row in read_manifest(out)}
    assert len(set(ids.values())) == 3
    assert ids[names[2]] == "b" * 200
    assert quick(src, out, format="both").reused == 3


def test_script_without_main_guard(tmp_path: Path) -> None:
    src = many_slices(tmp_path / "raw", 40)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from data_prep.convert import convert\n"
        "print('started')\n"
        "print(convert(sys.argv[1], sys.argv[2], workers=2, progress=False).converted)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(src), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "started\n40\n", done.stderr


def test_no_torch_is_loaded() -> None:
    code = "import sys, data_prep.__main__; print(sorted({'torch', 'monai', 'monai_kd'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
