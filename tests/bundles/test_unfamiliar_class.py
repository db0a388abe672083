"""A classifier that says so when it is shown other images than those that it was trained on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from disc_slices import write_disc_slices
from monai.bundle import create_workflow
from slices import write_dicom
from tiny import BUNDLES, untrained
from unfamiliar import stripes, taught

from monai_kd.inference import BundlePredictor, read_image

BUNDLE = BUNDLES / "cls_student"
BRAIN = Path(__file__).resolve().parents[3] / "shared" / "volumes" / "brain1.nii.gz"
RELEASED = BUNDLE / "models" / "model.pt"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc_slices(tmp_path_factory.mktemp("discs"), count=36)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    return taught("cls_student", tmp_path_factory.mktemp("run"), dataset)


def classified(checkpoint: Path, folder: Path, **values) -> tuple[dict[str, list[dict]], dict[str, dict]]:
    """Rows of ``classes.csv`` and entries of ``classes.json`` by file."""
    given = {"input": str(folder / "in"), "output_dir": str(folder / "out"), "checkpoint": str(checkpoint), **values}
    file = str(BUNDLE / "configs" / "inference.json")
    create_workflow(config_file=file, workflow_type="inference", run_id="inferring", device="cpu", **given).run()
    rows: dict[str, list[dict]] = {}
    with open(folder / "out" / "classes.csv", newline="") as table:
        for row in csv.DictReader(table):
            rows.setdefault(row["file"], []).append(row)
    files = json.loads((folder / "out" / "classes.json").read_text())["files"]
    return rows, {each["file"]: each for each in files}


@pytest.fixture
def folder(dataset: Path, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    stripes(tmp_path / "in" / "stripes.nii.gz")
    stripes(tmp_path / "in" / "volume.nii.gz", 3)
    shutil.copy(dataset / "images" / "0000.nii.gz", tmp_path / "in" / "slice.nii.gz")
    return tmp_path


def test_unlike_images_have_no_class(checkpoint, folder, capsys):
    rows, files = classified(checkpoint, folder)
    (usual,) = rows["slice.nii.gz"]
    assert usual["class"] in ("meningioma", "glioma", "pituitary")
    assert float(usual["feature_distance"]) < 1.4
    assert (len(rows["stripes.nii.gz"]), len(rows["volume.nii.gz"])) == (1, 3)
    for row in rows["stripes.nii.gz"] + rows["volume.nii.gz"]:
        assert (row["class"], row["probability"]) == ("not judged", "")
        assert float(row["feature_distance"]) >= 1.4
        assert f"unlike those of the training slices (distance {float(row['feature_distance']):.1f}" in row["warning"]
    (entry,) = files["stripes.nii.gz"]["slices"]
    assert entry["class"] == "not judged"
    assert "probability" not in entry
    assert entry["warning"] == rows["stripes.nii.gz"][0]["warning"]


def test_judged_on_request_with_the_same_warning(checkpoint, folder):
    marked, _ = classified(checkpoint, folder)
    rows, _ = classified(checkpoint, folder, judge_unfit=True)
    for file in ("stripes.nii.gz", "volume.nii.gz"):
        for row, earlier in zip(rows[file], marked[file], strict=True):
            assert row["class"] in ("meningioma", "glioma", "pituitary")
            assert float(row["probability"]) == max(float(row[f"p_{n}"]) for n in ("meningioma", "glioma", "pituitary"))
            assert row["warning"] == earlier["warning"]


def test_another_sequence_by_its_header(tmp_path):
    """Without any file of familiarity."""
    (tmp_path / "in").mkdir()
    pixels = (np.random.default_rng(0).random((64, 64)) * 900).astype(np.uint16)
    write_dicom(tmp_path / "in" / "t2.dcm", pixels, series="1.2.4", SeriesDescription="t2_tse_tra")
    write_dicom(tmp_path / "in" / "t1.dcm", pixels, SeriesDescription="t1_mprage post gd")
    rows, _ = classified(untrained("cls_student", tmp_path / "run"), tmp_path)
    (t1,), (t2,) = rows["t1.dcm"], rows["t2.dcm"]
    assert t1["class"] != "not judged" == t2["class"]
    assert "T2-weighted sequence" in t2["warning"]
    assert t1["feature_distance"] == t2["feature_distance"] == ""


def test_report_and_page_do_not_name_a_class(checkpoint, folder, dataset):
    from monai_kd.inference import InputFiles
    from monai_kd.inference.examine import examine

    seg = untrained("seg_student", folder / "seg")
    segment = BundlePredictor(BUNDLES / "seg_student", seg, device="cpu", threshold=1e-6)
    classify = BundlePredictor(BUNDLE, checkpoint, device="cpu")
    found = {each.row["file"]: each for each in examine(InputFiles(folder / "in", folder / "out"), segment, classify)}
    row = found["stripes.nii.gz"].row
    assert (row["class"], row["uncertain"]) == ("not judged", "")
    assert "the class is not judged: " in row["warning"]
    assert found["stripes.nii.gz"].summary_line.endswith("; class not judged")
    assert found["volume.nii.gz"].votes == {}
    assert found["slice.nii.gz"].row["class"] in ("meningioma", "glioma", "pituitary")


@pytest.mark.skipif(not BRAIN.is_file() or not RELEASED.is_file(), reason="needs ../shared/volumes")
def test_the_released_classifier_on_a_volume_from_elsewhere():
    predictor = BundlePredictor(BUNDLE, RELEASED, device="cpu")
    image, meta = read_image(BRAIN)
    assert predictor(image, meta)["examination"]["feature_distance"] < 1.3
    top = np.percentile(image, 99.5)
    inverted = np.where(image > 0.08 * top, (top - image).clip(0), image)
    assert predictor(inverted, meta)["examination"]["unfit"]
