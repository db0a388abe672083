"""A small student of three classes on real slices: trained, evaluated, used."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import create_workflow
from tiny import config

from data_prep.convert import convert

FIGSHARE = Path(__file__).resolve().parents[3] / "shared" / "figshare"
NAMES = ["meningioma", "glioma", "pituitary"]
OF_EACH = 20


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Real slices of all three classes, two a patient, each class in each of three folds."""
    if not (FIGSHARE / "build_mat.py").exists():
        pytest.skip("real slices are not at hand")
    of_group: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows(FIGSHARE / "slices.csv"):
        if (FIGSHARE / "images" / f"{row['id']}.jpg").exists():
            of_group[row["label"], row["group"]].append(row["id"])
    ids = []
    for label in "123":
        groups = [own[:2] for (of, _), own in of_group.items() if of == label and len(own) > 1]
        ids += [each for own in groups[: OF_EACH // 2] for each in own]
    folder = tmp_path_factory.mktemp("real")
    script = [sys.executable, str(FIGSHARE / "build_mat.py"), str(folder / "mat"), "--jobs", "1", "--ids", *ids]
    subprocess.run(script, check=True, capture_output=True)
    convert(folder / "mat", folder / "dataset", workers=1, progress=False, folds_n=3)
    return folder / "dataset"


def test_a_student_of_three_classes_from_real_slices_to_tables(dataset, tmp_path):
    def run(name: str, output_dir: Path, **values) -> None:
        kind = "train" if name == "train" else "infer"
        shared = {"device": "cpu", "amp": False, "logging_file": False, "output_dir": str(output_dir)}
        file = config("seg_student", name)
        workflow = create_workflow(config_file=file, workflow_type=kind, **shared, **values)
        workflow.run()
        workflow.finalize()

    tiny = {
        "image_size": 48,
        "epochs": 2,
        "val_interval": 2,
        "batch_size": 8,
        "features": [8, 8, 16, 16, 16, 8],
        "learning_rate": 0.01,
    }
    run("train", tmp_path / "models", dataset_dir=str(dataset), multiclass=True, recipe="none", **tiny)
    checkpoint = str(tmp_path / "models" / "model.pt")
    settings = json.loads((tmp_path / "models" / "settings.json").read_text())
    assert (settings["network_def"]["out_channels"], settings["mask_names"]) == (4, NAMES)
    first, second = (float(row["loss"]) for row in rows(tmp_path / "models" / "log.csv"))
    assert second < first

    run("evaluate", tmp_path / "eval", dataset_dir=str(dataset), checkpoint=checkpoint, bootstrap=20)
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert list(metrics["masks"]) == NAMES
    slices = rows(tmp_path / "eval" / "slices.csv")
    for row in slices:
        mask = np.asarray(nib.load(dataset / row["image"].replace("images", "labels")).dataobj) > 0
        areas = {name: float(row[f"truth_area_mm2_{name}"]) for name in NAMES}
        assert areas.pop(row["class_name"]) == pytest.approx(0.49**2 * mask.sum(), rel=1e-4)
        assert set(areas.values()) == {0.0}
    for name in NAMES:
        # by sums over all pixels, which the mean of slices with one class each is bounded by
        defined = [float(row[f"dice_{name}"]) for row in slices if row[f"dice_{name}"]]
        part = metrics["masks"][name]["metrics"]["dice"]["over_slices"]
        assert (part["defined"], part["mean"]) == (len(defined), pytest.approx(np.mean(defined)))
    assert {f"dice_{name}" for name in NAMES} < set(rows(tmp_path / "eval" / "patients.csv")[0])

    chosen = tmp_path / "chosen"
    chosen.mkdir()
    for row in slices[:2]:
        source = dataset / row["image"]
        (chosen / source.name).symlink_to(source)
    run("inference", tmp_path / "found", input=str(chosen), checkpoint=checkpoint)
    for row, sliced in zip(rows(tmp_path / "found" / "findings.csv"), slices[:2], strict=True):
        mask = np.asarray(nib.load(tmp_path / "found" / row["mask"]).dataobj)
        assert mask.shape == nib.load(dataset / sliced["image"]).shape
        for number, name in enumerate(NAMES, 1):
            found = float(row[f"area_mm2_{name}"] or 0)
            assert found == pytest.approx(0.49**2 * (mask == number).sum(), abs=0.01)
            # the same network on the same slice, by the other config
            assert found == pytest.approx(float(sliced[f"predicted_area_mm2_{name}"]), abs=0.01)
        assert (tmp_path / "found" / row["overlay"]).is_file()
