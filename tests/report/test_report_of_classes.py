"""Pages and tables of a segmentation of several classes, beside a classification."""

from __future__ import annotations

import base64
import csv
import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from class_students import NAMES, banded, classes_student, indices
from PIL import Image
from students import classification_student

from monai_kd.__main__ import main
from monai_kd.bundle.students import load_students
from monai_kd.serve.uploads import examine_uploads

AREA = 0.375  # of a pixel, mm²


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("students")
    (folder / "classification").mkdir()
    return {
        "segmentation": classes_student(folder / "segmentation"),
        "classification": classification_student(folder / "classification"),
    }


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    nib.save(nib.Nifti1Image((banded() * 1000).round().astype(np.int16), np.diag([-0.5, -0.75, 6, 1])), path)
    return path


def command(scan: Path, out: Path, checkpoints: dict[str, Path], *more: str) -> list[str]:
    given = [text for what, path in checkpoints.items() for text in (f"--{what}", str(path))]
    return ["report", str(scan), "--output_dir", str(out), "--device", "cpu", *given, *more]


def test_the_report_names_each_class(scan, checkpoints, tmp_path, capsys):
    assert main(command(scan, tmp_path, checkpoints)) == 0
    with open(tmp_path / "report.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    expected = indices(banded())
    for number, name in enumerate(NAMES, 1):
        assert float(row[f"area_mm2_{name}"]) == pytest.approx(AREA * (expected == number).sum(), abs=0.005)
    assert row["segmented_class"] == "glioma"
    # The classifier's own, whose names may be others.
    assert float(row["probability"]) == max(float(value) for name, value in row.items() if name.startswith("p_"))
    np.testing.assert_array_equal(np.asarray(nib.load(tmp_path / "scan_mask.nii.gz").dataobj), expected)
    page, said = (tmp_path / "report.html").read_text(), capsys.readouterr().out
    for number, name in enumerate(NAMES, 1):
        size = f"{AREA * (expected == number).sum():.0f} mm²"
        assert f"<dt>Outlined as {name}</dt><dd>{size}</dd>" in page
        assert f"{name} {size}" in said
    assert "none: each pixel has the most probable class" in page


@pytest.mark.parametrize(
    ("threshold", "reason"),
    [
        ("0.4", "each pixel gets its most probable class (background or meningioma, glioma"),
        ("expected_dice", "this network gives each pixel the most probable of several classes"),
    ],
)
def test_a_threshold_is_refused(threshold, reason, scan, checkpoints, tmp_path, capsys):
    assert main(command(scan, tmp_path / "out", checkpoints, "--threshold", threshold)) == 2
    said = capsys.readouterr().err
    assert "error: --threshold: " in said
    assert reason in said


def test_uploads_are_answered_with_the_size_of_each_class(scan, checkpoints):
    students = load_students(checkpoints["segmentation"], checkpoints["classification"], device="cpu")
    (answer,) = examine_uploads([("a.nii.gz", io.BytesIO(scan.read_bytes()))], students)
    expected = indices(banded())
    assert answer["segmented"] == {
        name: f"{AREA * (expected == number).sum():.0f} mm²" for number, name in enumerate(NAMES, 1)
    }
    assert answer["segmented_class"] == "glioma"
    mask = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(answer["mask"]["content"])))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
    # Each class has its own colour: more than one hue in the picture.
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["picture"].split(",")[1])))).astype(int)
    assert ((picture[..., 0] - picture[..., 2]) > 60).any()  # orange
    assert ((picture[..., 2] - picture[..., 0]) > 60).any()  # blue
