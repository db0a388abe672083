"""The report: one command, one page, nothing in it that must not be."""

import base64
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import deadly
import h5py
import nibabel as nib
import numpy as np
import pydicom
import pytest
from dicom_file import write_dicom_file
from monai.bundle import create_workflow
from PIL import Image
from students import (
    CLASS_NAMES,
    SIZE,
    classification_student,
    classifier_without_tumours,
    segmentation_student,
)

from data_prep.lock import only_writer
from monai_kd.__main__ import main
from monai_kd.inference import examine, overlay, read_source
from monai_kd.inference.examine import Examined
from monai_kd.io.checkpoints import save_checkpoint
from monai_kd.io.table import read_table
from monai_kd.networks import create_backbone

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
MARKUP = "<b>x&y.png"
SECRETS = ("DOE^JANE", "ID-4711", "19700102")


def square(*shape: int, side: int = 8, seed: int = 0) -> np.ndarray:
    """Columns and rows from 8 on are bright; noise makes the class of each slice its own."""
    image = np.random.default_rng(seed).normal(100, 30, (SIZE, SIZE, *shape)).clip(0)
    image[8 : 8 + side, 8 : 8 + side] = 900
    return image.astype(np.int16)


def save_nifti(path: Path, image: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(image, np.diag([-0.5, -0.75, 4.0, 1.0])), path)


def save_dicom(path: Path, image: np.ndarray) -> None:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = pydicom.uid.MRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = pydicom.uid.generate_uid()
    data.PatientName, data.PatientID, data.PatientBirthDate = SECRETS
    data.Modality, data.PixelSpacing, data.PhotometricInterpretation = "MR", [0.5, 0.5], "MONOCHROME2"
    data.Rows, data.Columns, data.SamplesPerPixel = *image.shape, 1
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelData = image.tobytes()
    write_dicom_file(path, data)


@pytest.fixture(scope="module")
def students(tmp_path_factory) -> dict[str, Path]:
    return {
        "segmentation": segmentation_student(tmp_path_factory.mktemp("segmentation")),
        "classification": classification_student(tmp_path_factory.mktemp("classification")),
    }


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    save_nifti(folder / "slice.nii.gz", square())
    volume = square(5, seed=1)
    volume[8:18, 8:18, 3] = 900  # the largest
    volume[8:16, 8:16, 4], volume[20, 20, 4] = 100, 900  # one pixel
    save_nifti(folder / "volume.nii.gz", volume)
    Image.fromarray((square().T / 4).astype(np.uint8)).save(folder / MARKUP)
    # Twice the size the network sees: the only bright pixel is averaged away.
    nothing = np.random.default_rng(2).integers(0, 100, (2 * SIZE, 2 * SIZE, 3)).astype(np.int16)
    nothing[5, 5] = 1000
    save_nifti(folder / "nothing.nii.gz", nothing)
    save_dicom(folder / "dicom", square().T)
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "bad<script>.png").write_text("no picture")
    (folder / "notes.txt").write_text("of a doctor")
    return folder


def command(scans: Path, out: Path, students: dict[str, Path], *more: str) -> list[str]:
    checkpoints = [text for what, path in students.items() for text in (f"--{what}", str(path))]
    return ["report", str(scans), "--output_dir", str(out), "--device", "cpu", *checkpoints, *more]


@dataclass
class Page(HTMLParser):
    """What a browser makes of the page."""

    source: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    articles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "article":
            self.articles.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)
        if "article" in self.open:
            self.articles[-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def about(self, file: str) -> str:
        """The words about one file."""
        (words,) = [" ".join(words.split()) for words in self.articles if words.strip().startswith(file)]
        return words


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def out(scans, students, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    assert main(command(scans, folder, students)) == 0
    return folder


@pytest.fixture(scope="module")
def page(out) -> Page:
    return Page((out / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows(out) -> dict[str, dict[str, str]]:
    return rows_of(out / "report.csv")


def test_the_page_needs_nothing_from_outside(page):
    assert page.open == []
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|//|url\(|@import|\son\w+=", re.sub(r'src="data:[^"]*"', "", page.source))
    identifiers = {attributes.get("id") for _, attributes in page.tags}
    for _, attributes in page.tags:
        assert attributes.get("href", "#file1")[1:] in identifiers
        assert attributes.get("src", "data:").startswith("data:")
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy


def test_pictures_can_be_seen(page):
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 5
    for attributes in pictures:
        kind, content = attributes["src"].split(",")
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as picture:
            picture.load()
            array = np.asarray(picture.convert("RGB")).astype(int)
        assert min(picture.size) > 200
        assert array.std() > 10
        assert "exif" not in picture.info
        red = (array[..., 0] - array[..., 2] > 60).sum()
        assert (red > 50) == (attributes["alt"] == "Outline of the tumour")
    assert sum(attributes["alt"] == "Outline of the tumour" for attributes in pictures) == 4


def test_names_are_text_and_not_markup(page):
    assert MARKUP in page.text
    assert "bad<script>.png" in page.text
    assert "&lt;b&gt;x&amp;y.png" in page.source
    assert CLASS_NAMES[2] in page.text
    assert not {"i>pituitary", "script"} & {tag for tag, _ in page.tags}
    assert all(name not in page.source for name in (MARKUP, "<i>pituitary", "<script>"))


def test_every_file_has_a_row_and_a_place(page, rows, scans):
    assert {name: row["status"] for name, row in rows.items()} == {
        **dict.fromkeys(("slice.nii.gz", "volume.nii.gz", "nothing.nii.gz", MARKUP, "dicom"), "ok"),
        **dict.fromkeys(("empty.nii.gz", "bad<script>.png"), "failed"),
        "notes.txt": "skipped",
    }
    assert len(page.articles) == len(rows)
    assert "the file is empty" in page.about("empty.nii.gz")
    assert rows["empty.nii.gz"]["reason"] == "the file is empty"
    assert "can't be read as a picture" in page.about("bad<script>.png")
    assert "unsupported kind of file" in page.about("notes.txt")
    assert "8: 5 used, 4 of them with an outline; 2 unreadable, 1 of another kind" in page.text
    assert "Not a medical device; research only." in page.text


def test_what_is_said_of_a_slice(page, rows):
    row, words = rows["slice.nii.gz"], page.about("slice.nii.gz")
    assert (row["area_px"], row["area_mm2"]) == ("64", "24.0")
    assert "Tumour: 24.0 mm²" in words
    assert row["uncertain"] == "yes"
    assert "Class: uncertain" in words
    assert "No class has a probability of 60 % or more" in words
    assert "slice_mask.nii.gz" in words
    probabilities = [float(row[f"p_{name}"]) for name in CLASS_NAMES]
    assert sum(probabilities) == pytest.approx(1, abs=2e-4)
    assert float(row["probability"]) == max(probabilities)
    for name, p in zip(CLASS_NAMES, probabilities, strict=True):
        assert re.search(rf"{re.escape(name)} ?{100 * p:.1f}\s%", words)
    widths = re.findall(r"width: ([\d.]+)%\"", page.source)
    assert len(widths) == 5 * 3
    assert sum(map(float, widths)) == pytest.approx(500, abs=1)


def test_a_picture_has_no_millimetres(page, rows):
    words = page.about(MARKUP)
    assert "Tumour: 64 pixels" in words
    assert "not known" in words
    assert "mm²" not in words
    assert (rows[MARKUP]["area_px"], rows[MARKUP]["area_mm2"]) == ("64", "")


def test_a_volume_has_the_class_of_its_largest_slice(page, rows):
    row, words = rows["volume.nii.gz"], page.about("volume.nii.gz")
    assert (row["slice"], row["largest_slice"], row["slices_with_tumour"]) == ("3", "3", "5")
    # The table counts from 0, as arrays do, and the page from 1.
    assert "(slice 4 of 5)" in words
    assert "slice 4 of 5 Outlined in" in words
    votes = re.search(r"Of the 5 slices with tumour: (.*?)\.", words)
    assert sum(int(count) for count in re.findall(r"\d+", votes[1])) == 5


def test_no_tumour_greys_the_class(page, rows):
    row, words = rows["nothing.nii.gz"], page.about("nothing.nii.gz")
    assert (row["tumour"], row["area_px"]) == ("no", "")
    assert "No tumour found" in words
    assert f"in slice {int(row['slice']) + 1} of 3" in words
    assert "The classifier names a kind of tumour in any case" in words
    assert [a["class"] for tag, a in page.tags if "greyed" in (a.get("class") or "")] == ["class greyed"]
    assert page.text.count("The classifier names a kind of tumour in any case") == 1


def test_networks_that_disagree(scans, students, tmp_path):
    given = {**students, "classification": classifier_without_tumours(tmp_path / "classifier")}
    assert main(command(scans, tmp_path / "out", given)) == 0
    page, rows = Page((tmp_path / "out" / "report.html").read_text()), rows_of(tmp_path / "out" / "report.csv")
    seen, words = rows["slice.nii.gz"], page.about("slice.nii.gz")
    assert (seen["tumour"], seen["class"], seen["uncertain"]) == ("yes", "no tumour", "yes")
    assert float(seen["probability"]) > 0.9
    assert "the networks disagree" in seen["warning"]
    assert "Class: uncertain" in words
    assert "The classifier sees no tumour, the segmentation marks one." in words
    none, words = rows["nothing.nii.gz"], page.about("nothing.nii.gz")
    assert (none["tumour"], none["class"], none["uncertain"]) == ("no", "no tumour", "no")
    assert "disagree" not in none["warning"]
    assert "The classifier sees none either." in words


KINDS, WITH_NONE = {"glioma": 0.7}, {"glioma": 0.7, "no tumour": 0.3}


@pytest.mark.parametrize(
    ("tumour", "name", "uncertain", "probabilities", "note"),
    [
        ("yes", "glioma", "no", KINDS, ""),
        ("yes", "glioma", "yes", WITH_NONE, "No class has a probability of 60 % or more."),
        ("yes", "no tumour", "yes", WITH_NONE, "The classifier sees no tumour, the segmentation marks one."),
        ("yes", "not judged", "no", KINDS, "See the warning: a class would mean nothing."),
        (
            "no",
            "glioma",
            "no",
            KINDS,
            "The classifier names a kind of tumour in any case. None was found, so this class means nothing.",
        ),
        ("no", "glioma", "no", WITH_NONE, "The segmentation found no tumour, so this class means nothing."),
        ("no", "no tumour", "no", WITH_NONE, "The classifier sees none either."),
        ("not judged", "glioma", "no", KINDS, "No tumour was looked for, so this class means nothing."),
    ],
)
def test_note_of_a_class(tumour, name, uncertain, probabilities, note):
    row = {"tumour": tumour, "class": name, "uncertain": uncertain}
    assert Examined(row, probabilities=probabilities).class_note == note


def test_the_same_as_the_bundles_say(out, rows, scans, students, tmp_path):
    for bundle, what in (("seg_student", "segmentation"), ("cls_student", "classification")):
        workflow = create_workflow(
            config_file=str(BUNDLES / bundle / "configs" / "inference.json"),
            workflow_type="infer",
            input=str(scans),
            output_dir=str(tmp_path / what),
            checkpoint=str(students[what]),
            device="cpu",
            logging_file=False,
        )
        workflow.run()
        workflow.finalize()
    found = rows_of(tmp_path / "segmentation" / "findings.csv")
    assert found.keys() == rows.keys()
    for name, expected in found.items():
        # The page has its pictures in it, and writes no DICOM.
        del expected["overlay"], expected["dicom_seg"]
        assert expected.items() <= rows[name].items()
        if expected["mask"]:
            mask = (tmp_path / "segmentation" / expected["mask"]).read_bytes()
            assert (out / rows[name]["mask"]).read_bytes() == mask
    with open(tmp_path / "classification" / "classes.csv", newline="") as file:
        classes = {(row.pop("file"), row["slice"]): row for row in csv.DictReader(file)}
    for name, row in rows.items():
        expected = classes[name, row["slice"]]
        assert {k: v for k, v in expected.items() if k not in ("gradcam", "reason")}.items() <= row.items()


def test_each_file_is_read_once(scans, students, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(
        "monai_kd.inference.examine.read_source", lambda paths, **how: read.append(paths) or read_source(paths, **how)
    )

    def again(*_):
        raise AssertionError("read once more")

    monkeypatch.setattr("monai_kd.io.readers.SliceReader.source", again)
    assert main(command(scans, tmp_path, students)) == 0
    assert sorted(path.name for paths in read for path in paths) == sorted(
        path.name for path in scans.iterdir() if path.name != "notes.txt"
    )


def test_nothing_of_a_dicom_header_or_of_folders(out, scans, students):
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    for secret in (*SECRETS, str(scans), str(out), str(students["segmentation"].parent)):
        assert secret.encode() not in written
    assert not list(out.rglob("*.partial*"))


def test_checkpoints_and_threshold_are_named(page, scans, students, tmp_path):
    for path in students.values():
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:12] in page.text
    assert "0.5 on the probability of tumour" in page.text
    more = command(scans / "slice.nii.gz", tmp_path, students, "--threshold", "0.25")
    assert main(more) == 0
    assert "0.25 on the probability of tumour" in Page((tmp_path / "report.html").read_text()).text


def test_names_that_move_the_cursor_or_are_formulas(students, tmp_path, capsys):
    names = ["=1+1.nii.gz", "\u202egz.iin.nii.gz", "\x1b[2Ja\nb.nii.gz"]
    (tmp_path / "in").mkdir()
    for name in names:
        save_nifti(tmp_path / "in" / name, square())
    (tmp_path / "in" / "@\x07bad.nii.gz").write_bytes(b"")
    assert main(command(tmp_path / "in", tmp_path / "out", students)) == 0
    said = capsys.readouterr().out.replace("\n", "")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8").replace("\n", "")
    raw = (tmp_path / "out" / "report.csv").read_text(encoding="utf-8")
    for text in (said, page, raw.replace("\n", "")):
        assert text.isprintable()
        assert r"\u202egz.iin" in text
    assert {row["file"] for row in read_table(tmp_path / "out" / "report.csv")} == {*names, "@\x07bad.nii.gz"}
    assert not [line for line in raw.splitlines() if line.startswith(("=", "@"))]


@pytest.mark.parametrize(
    ("target", "what"), [("read_source", "it can't be read"), ("write_mask", "an output can't be written")]
)
def test_what_the_system_says_of_one_file_is_its_row(target, what, students, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        save_nifti(tmp_path / "in" / name, square())
    original, code = getattr(examine, target), errno.EIO

    def fails(*arguments, **options):
        if "a.nii.gz" in str(arguments) or "a_mask" in str(arguments):
            raise OSError(code, os.strerror(code))
        return original(*arguments, **options)

    monkeypatch.setattr(examine, target, fails)
    assert main(command(tmp_path / "in", tmp_path / "out", students)) == 0
    rows = {row["file"]: row for row in read_table(tmp_path / "out" / "report.csv")}
    assert (rows["a.nii.gz"]["status"], rows["b.nii.gz"]["status"]) == ("failed", "ok")
    assert rows["a.nii.gz"]["reason"] == f"{what}: {os.strerror(code)}"
    code = errno.ENOSPC
    assert main(command(tmp_path / "in", tmp_path / "out2", students)) == 2


def test_a_report_that_was_interrupted_is_made_again(students, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz"):
        save_nifti(tmp_path / "in" / name, square())
    original = examine.overlay_picture

    def interrupted(pixels, *arguments, **options):
        if (tmp_path / "out" / "b_mask.nii.gz").is_file():
            raise KeyboardInterrupt
        return original(pixels, *arguments, **options)

    monkeypatch.setattr(examine, "overlay_picture", interrupted)
    assert main(command(tmp_path / "in", tmp_path / "out", students)) == 130
    rows = {row["file"]: row["status"] for row in read_table(tmp_path / "out" / "report.csv")}
    assert rows == {"a.nii.gz": "ok", "b.nii.gz": "unfinished", "c.nii.gz": "unfinished"}
    monkeypatch.setattr(examine, "overlay_picture", original)
    assert main(command(tmp_path / "in", tmp_path / "out", students)) == 0
    assert {row["status"] for row in read_table(tmp_path / "out" / "report.csv")} == {"ok"}


def test_of_an_earlier_report_no_mask_stays_of_a_file_that_fails_now(students, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        save_nifti(tmp_path / "in" / name, square())
    assert main(command(tmp_path / "in", tmp_path / "out", students)) == 0
    (tmp_path / "in" / "a.nii.gz").write_bytes(b"")
    assert main(command(tmp_path / "in", tmp_path / "out", students)) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.csv", "lesions.csv", "b_mask.nii.gz"}


def temperature_file(path: Path, temperature: float, checkpoint: Path) -> str:
    """What an evaluation with ``--calibrate True`` writes."""
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    path.write_text(json.dumps({"temperature": temperature, "slices": 9, "checkpoint": {"sha256": sha256}}))
    return str(path)


def metrics_file(path: Path, checkpoint: Path, **more) -> str:
    """What an evaluation without a temperature writes, as far as it matters here."""
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    path.write_text(json.dumps({"temperature": 1.0, "over_slices": {}, "checkpoint": {"sha256": sha256}, **more}))
    return str(path)


def test_a_temperature_softens_the_classes_alone(rows, scans, students, tmp_path):
    given = {"n": "4", "f": temperature_file(tmp_path / "temperature.json", 4.0, students["classification"])}
    fitted = {"temperature": 4.0, "cross_fitted": {}}
    given["m"] = metrics_file(tmp_path / "metrics.json", students["classification"], calibrated=fitted)
    soft = {}
    for name, temperature in given.items():
        more = ("--temperature", temperature)
        assert main(command(scans / "slice.nii.gz", tmp_path / name, students, *more)) == 0
        assert "Temperature4, of the prob" in Page((tmp_path / name / "report.html").read_text()).text
        soft[name] = rows_of(tmp_path / name / "report.csv")["slice.nii.gz"]
    assert soft["n"] == soft["f"] == soft["m"]
    plain = rows["slice.nii.gz"]
    assert (soft["n"]["class"], soft["n"]["mean_probability"]) == (plain["class"], plain["mean_probability"])
    sharp = np.array([float(plain[f"p_{name}"]) for name in CLASS_NAMES]).clip(1e-4) ** (1 / 4)
    expected = sharp / sharp.sum()
    np.testing.assert_allclose([float(soft["n"][f"p_{name}"]) for name in CLASS_NAMES], expected, atol=0.01)


def test_a_class_is_named_when_it_is_certain(scans, students, tmp_path, capsys):
    """The same slice, whose class is uncertain, with a temperature that makes it certain."""
    assert main(command(scans / "slice.nii.gz", tmp_path / "out", students, "--temperature", "0.01")) == 0
    row = rows_of(tmp_path / "out" / "report.csv")["slice.nii.gz"]
    assert float(row["probability"]) >= 0.6
    assert row["uncertain"] == "no"
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert f"Class: {row['class']}" in page.about("slice.nii.gz")
    assert "uncertain" not in page.about("slice.nii.gz")
    assert [a["class"] for tag, a in page.tags if tag == "b" and a.get("class")] == ["best"]
    assert f"; {row['class']}, probability" in capsys.readouterr().out


def test_a_temperature_beside_the_checkpoint_is_used(scans, students, tmp_path):
    checkpoint = classification_student(tmp_path / "run")
    temperature_file(tmp_path / "run" / "temperature.json", 0.01, checkpoint)
    given = {**students, "classification": checkpoint}
    assert main(command(scans / "slice.nii.gz", tmp_path / "out", given)) == 0
    assert "Temperature0.01, of the prob" in Page((tmp_path / "out" / "report.html").read_text()).text
    assert rows_of(tmp_path / "out" / "report.csv")["slice.nii.gz"]["uncertain"] == "no"


def test_probabilities_without_a_temperature_are_called_so(page):
    assert "they are the network's own, not calibrated" in page.text


def test_sides_are_named_where_the_file_says_how_it_lies(page, students, tmp_path, monkeypatch):
    drawn = {}
    mark = overlay._mark
    monkeypatch.setattr(overlay, "_mark", lambda *args: (drawn.update({args[3]: args[4]}), mark(*args)))
    assert "Left and right not known" in page.about("slice.nii.gz").replace("rightnot", "right not")
    affine = np.diag([-0.5, -0.75, 4.0, 1.0])
    affine[:3, 3] = 40, 35, 12
    nib.save(nib.Nifti1Image(square().astype(np.int16), affine), tmp_path / "placed.nii.gz")
    assert main(command(tmp_path / "placed.nii.gz", tmp_path / "out", students)) == 0
    assert "Left and right" not in Page((tmp_path / "out" / "report.html").read_text()).text
    assert drawn == {"left": "R", "right": "L", "top": "A", "bottom": "P"}


def test_a_temperature_of_another_checkpoint_is_refused(scans, students, tmp_path, capsys):
    other = temperature_file(tmp_path / "temperature.json", 4.0, students["segmentation"])
    assert main(command(scans / "slice.nii.gz", tmp_path / "out", students, "--temperature", other)) == 2
    assert "was fitted to another checkpoint than" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


SYNTHETIC: dict[str, tuple[Callable[[Path], dict | None], str | None]] = {
    "demo": (lambda data: {"preset": "demo"}, "SYNTHETIC"),
    "demo on real slices": (lambda data: {"preset": "demo", "synthetic": False}, None),
    "phantoms by name": (lambda data: {"preset": "full", "dataset_dir": str(data)}, "SYNTHETIC"),
    "folder is gone": (lambda data: {"preset": "full", "dataset_dir": str(data / "gone")}, None),
    "no settings": (lambda data: None, "network are not known"),
}


@pytest.mark.parametrize(("settings", "said"), SYNTHETIC.values(), ids=SYNTHETIC)
def test_synthetic_is_logged_and_printed(settings, said, scans, students, disc_dataset, tmp_path, capsys):
    classifier = classification_student(tmp_path)
    values = settings(disc_dataset)
    if values is None:
        # Weights that fit what is assumed without settings.
        save_checkpoint(create_backbone("efficientnet_b0", num_classes=3).state_dict(), classifier)
        (tmp_path / "settings.json").unlink()
    else:
        classification_student(tmp_path, **values)
    given = {**students, "classification": classifier}
    assert main(command(scans / "slice.nii.gz", tmp_path / "out", given)) == 0
    text = Page((tmp_path / "out" / "report.html").read_text()).text
    if said is None:
        assert "SYNTHETIC" not in text
        assert "are not known" not in text
    else:
        assert said in text
        assert "classification network" in text
        assert "segmentation network" not in text
    assert ("SYNTHETIC" in capsys.readouterr().out) == (said == "SYNTHETIC")


WRONG = {
    "segmentation": (
        lambda good, d: {**good, "segmentation": good["classification"]},
        [],
        "is a checkpoint for --classification",
    ),
    "classification": (
        lambda good, d: {**good, "classification": good["segmentation"]},
        [],
        "is a checkpoint for --segmentation",
    ),
    "absent": (lambda good, d: {**good, "segmentation": d / "absent.pt"}, [], "there is no checkpoint"),
    "no checkpoint": (lambda good, d: {**good, "segmentation": Path(__file__)}, [], "can't be read as a checkpoint"),
    "threshold": (lambda good, d: good, ["--threshold", "1.5"], "threshold must be a number between 0 and 1"),
    "no rule": (
        lambda good, d: good,
        ["--threshold", "expected_dice"],
        "--threshold: expected_dice marks something in nearly each slice",
    ),
    "temperature": (lambda good, d: good, ["--temperature", "0"], "temperature must be a positive number"),
    "temperature file": (
        lambda good, d: good,
        ["--temperature", "t.json"],
        "t.json is not a number, and there is no",
    ),
    "no temperature file": (
        lambda good, d: good,
        ["--temperature", __file__],
        "holds no temperature that an evaluation fitted",
    ),
    "no fitted temperature": (
        lambda good, d: good,
        ["--temperature", "METRICS"],
        "evaluate with --calibrate True, or give a number",
    ),
    "temperature that could not be fitted": (
        lambda good, d: good,
        ["--temperature", "UNDEFINED"],
        "evaluate with --calibrate True, or give a number",
    ),
    "device": (lambda good, d: good, ["--device", "toaster"], "--device must be one of cpu"),
    "bundles": (lambda good, d: good, ["--bundles", "nowhere"], "there is no bundle seg_student in"),
}


@pytest.mark.parametrize(("given", "more", "message"), WRONG.values(), ids=WRONG)
def test_one_clear_error(given, more, message, scans, students, tmp_path, capsys):
    for name, calibrated in (("METRICS", {}), ("UNDEFINED", {"calibrated": {"undefined": "one class"}})):
        metrics_file(tmp_path / name, students["classification"], **calibrated)
    more = [str(tmp_path / word) if (tmp_path / word).is_file() else word for word in more]
    assert main(command(scans, tmp_path / "out", given(students, tmp_path), *more)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: ")
    assert message in said[-1]
    assert not any("Traceback" in line for line in said)
    assert not (tmp_path / "out").exists()


def test_no_input(students, tmp_path, capsys):
    assert main(command(tmp_path / "absent", tmp_path / "out", students)) == 2
    assert "there is no file or folder" in capsys.readouterr().err
    (tmp_path / "in").mkdir()
    assert main(command(tmp_path / "in", tmp_path / "out", students)) == 2
    assert "holds no file" in capsys.readouterr().err


def test_files_that_end_a_process_or_fill_the_memory_are_rows(scans, students, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    image = square()
    for number in range(2):
        with h5py.File(folder / f"{number}.mat", "w", userblock_size=512) as file:
            file["cjdata/image"] = image.T
    shutil.copy(scans / "slice.nii.gz", folder)
    monkeypatch.setattr("data_prep.matfile.image_of", deadly.abort)
    assert main(command(folder, tmp_path / "out", students)) == 0
    rows = rows_of(tmp_path / "out" / "report.csv")
    assert rows["slice.nii.gz"]["status"] == "ok"
    for name in ("0.mat", "1.mat"):
        assert rows[name]["status"] == "failed"
        assert rows[name]["reason"].startswith("it ended the process that read it (signal 6)")
    monkeypatch.undo()
    monkeypatch.setattr("monai_kd.inference.examine.write_mask", deadly.no_memory)
    assert main(command(folder, tmp_path / "again", students)) == 1
    rows = rows_of(tmp_path / "again" / "report.csv")
    assert {row["reason"] for row in rows.values()} == {"it does not fit into memory"}


def test_nothing_could_be_used(scans, students, tmp_path, capsys):
    assert main(command(scans / "empty.nii.gz", tmp_path, students)) == 1
    assert "the file could not be used" in capsys.readouterr().err
    assert "the file is empty" in Page((tmp_path / "report.html").read_text()).about("empty.nii.gz")


def test_what_was_found_before_an_error_is_kept(scans, students, tmp_path, monkeypatch, capsys):
    write, written = examine.write_mask, []

    def disk(*arguments):
        if written:
            raise OSError("No space left on device")
        written.append(write(*arguments))

    monkeypatch.setattr(examine, "write_mask", disk)
    assert main(command(scans, tmp_path, students)) == 2
    assert "error: No space left" in capsys.readouterr().err
    assert [row["status"] for row in rows_of(tmp_path / "report.csv").values()].count("ok") == 1


def test_from_the_shell_elsewhere(scans, students, tmp_path):
    arguments = command(scans / "slice.nii.gz", Path("out"), students, "--bundles", str(BUNDLES))
    done = subprocess.run([sys.executable, "-m", "monai_kd", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "[1/1] slice.nii.gz: tumour, 24 mm²" in done.stdout
    assert (tmp_path / "out" / "report.html").is_file()


def test_help_is_quick():
    code = "import sys; from monai_kd.__main__ import main\ntry: main(['report', '--help'])\n"
    code += "finally: print({'torch', 'monai', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("set()")
    assert "--classification" in done.stdout


def test_a_name_that_is_no_text(students, tmp_path, capsys):
    source = tmp_path / "in" / os.fsdecode(b"M\xfcller.nii.gz")
    source.parent.mkdir()
    try:
        save_nifti(source, square())
    except OSError:
        pytest.skip("the file system takes no such names")
    assert main(command(source.parent, tmp_path / "out", students)) == 0
    assert "M?ller.nii.gz: tumour" in capsys.readouterr().out
    assert rows_of(tmp_path / "out" / "report.csv")["M?ller.nii.gz"]["tumour"] == "yes"


def test_two_reports_into_one_folder_are_not_mixed(scans, students, tmp_path, capsys):
    with only_writer(tmp_path / "out"):
        assert main(command(scans, tmp_path / "out", students)) == 2
    said = f"error: another process is writing into {tmp_path / 'out'}: wait until it has ended, or choose another "
    assert capsys.readouterr().err == f"{said}--output_dir\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_settings_that_are_no_json_are_named(scans, students, tmp_path, capsys):
    classifier = classification_student(tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps({"a": 1})[:-1])
    assert main(command(scans, tmp_path / "out", {**students, "classification": classifier})) == 2
    assert "settings.json is not JSON" in capsys.readouterr().err


def test_a_page_names_what_the_network_marks(scans, students, tmp_path, capsys):
    point = {"score": "max", "threshold": 0.6, "specificity": 0.9, "sensitivity": 0.8, "measured_on": "squares"}
    (tmp_path / "lesions").mkdir()
    lesions = segmentation_student(tmp_path / "lesions", mask_names=["lesion"], operating_point=point)
    assert main(command(scans, tmp_path / "out", {**students, "segmentation": lesions})) == 0
    page = Page((tmp_path / "out" / "report.html").read_text())
    found, none = page.about("slice.nii.gz"), page.about("nothing.nii.gz")
    assert "Lesion: 24.0 mm²" in found
    assert "No lesion found" in none
    assert "; at least 0.600 counts as lesion" in none
    assert "The classifier names a kind of lesion in any case." in none
    said = capsys.readouterr().out
    assert "slice.nii.gz: lesion, 24 mm²" in said
    for text in (page.source, said):
        for name in CLASS_NAMES:
            text = text.replace(name, "")
        assert "tumour" not in text.lower()
