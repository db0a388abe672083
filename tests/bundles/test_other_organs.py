"""Slices of another organ: trained on, and segmented, as what their data list says that they are."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import create_workflow
from slices import write_dicom
from tiny import BUNDLES, OVERRIDES, config, settings_of, train

from monai_kd.data import read_datalist
from monai_kd.inference import BundlePredictor

HEADER = {"Modality": "CT", "BodyPartExamined": "ABDOMEN", "SeriesDescription": "portal venous"}


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory) -> Path:
    """Discs in noise as CT slices in DICOM, with their masks."""
    folder, draw, entries = tmp_path_factory.mktemp("abdomen"), np.random.default_rng(0), []
    x, y = np.meshgrid(np.arange(32), np.arange(32))
    for number in range(8):
        inside = (x - draw.integers(10, 22)) ** 2 + (y - draw.integers(10, 22)) ** 2 < 36
        image = (draw.integers(0, 200, (32, 32)) + 600 * inside).astype(np.uint16)
        for name, pixels in (("images", image), ("labels", inside.astype(np.uint16))):
            write_dicom(folder / name / f"{number}.dcm", pixels, series=f"1.2.{number}", **HEADER)
        entries.append(
            {
                **{"image": f"images/{number}.dcm", "label": f"labels/{number}.dcm", "class": 0, "fold": number % 2},
                **{"patient": str(number), "group": str(number), "source": f"{number}.dcm"},
            }
        )
    datalist = {"labels": {"1": "spleen"}, "mask_value": 1, "body_part": "ABDOMEN", "training": entries}
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


@pytest.fixture(scope="module", params=["seg_student", "cls_student"])
def trained(request, abdomen, tmp_path_factory) -> tuple[str, Path]:
    run, data = tmp_path_factory.mktemp(request.param), abdomen
    if request.param == "cls_student":
        # A classification needs two classes.
        data = shutil.copytree(abdomen, run / "data")
        listed = json.loads((data / "datalist.json").read_text())
        for number, entry in enumerate(listed["training"]):
            entry["class"] = number // 2 % 2
        (data / "datalist.json").write_text(json.dumps({**listed, "labels": {"1": "spleen", "2": "liver"}}))
    train(request.param, data, run, **{**OVERRIDES[request.param], "recipe": "none", "epochs": 1})
    return request.param, run


def infer(bundle: str, checkpoint: Path, given: Path, output: Path, **more: object) -> None:
    values = {"input": str(given), "output_dir": str(output), "checkpoint": str(checkpoint), "device": "cpu"}
    workflow = create_workflow(
        config_file=config(bundle, "inference"), workflow_type="infer", logging_file=False, **values, **more
    )
    workflow.run()


def rows_of(bundle: str, output: Path) -> list[dict[str, str]]:
    with open(output / ("findings.csv" if bundle == "seg_student" else "classes.csv"), newline="") as file:
        return list(csv.DictReader(file))


def test_their_slices_are_judged_without_the_rules_of_heads(trained, abdomen, tmp_path):
    bundle, run = trained
    assert settings_of(run)["body_part"] == "ABDOMEN"
    if bundle == "seg_student":
        assert settings_of(run)["mask_names"] == ["spleen"]
    infer(bundle, run / "model.pt", abdomen / "images", tmp_path)
    rows = rows_of(bundle, tmp_path)
    assert [(row["status"], row["warning"]) for row in rows] == [("ok", "")] * 8
    assert not BundlePredictor(BUNDLES / bundle, run / "model.pt", device="cpu").of_head


def test_no_codes_of_brain_tumours_are_written(trained, abdomen, tmp_path):
    pytest.importorskip("highdicom")
    bundle, run = trained
    if bundle == "cls_student":
        pytest.skip("classes have no DICOM segmentation")
    infer(bundle, run / "model.pt", abdomen / "images", tmp_path, dicom_seg=True, threshold=1e-6)
    assert {row["reason"] for row in rows_of(bundle, tmp_path)} == {
        "no DICOM SEG: its codes are those of tumours of the brain"
    }
    assert not list(tmp_path.glob("*_seg.dcm"))


def test_they_are_evaluated(trained, abdomen, tmp_path):
    bundle, run = trained
    data = run / "data" if bundle == "cls_student" else abdomen
    workflow = create_workflow(
        config_file=config(bundle, "evaluate"),
        workflow_type="infer",
        **{"dataset_dir": str(data), "checkpoint": str(run / "model.pt"), "output_dir": str(tmp_path)},
        **{"device": "cpu", "logging_file": False},
    )
    workflow.run()
    with open(tmp_path / "slices.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_a_network_of_heads_refuses_them(trained, abdomen, tmp_path):
    bundle, run = trained
    own = tmp_path / "own"
    own.mkdir()
    for name in ("model.pt", "settings.json"):
        (own / name).write_bytes((run / name).read_bytes())
    settings = json.loads((own / "settings.json").read_text())
    del settings["body_part"]
    (own / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(RuntimeError):  # no file is left
        infer(bundle, own / "model.pt", abdomen / "images", tmp_path / "out")
    rows = rows_of(bundle, tmp_path / "out")
    assert {row["status"] for row in rows} == {"failed"}
    assert "is of modality CT" in rows[0]["reason"]


@pytest.mark.parametrize("part", [7, "", ["HEAD"]])
def test_a_part_of_the_body_is_a_text(part, abdomen, tmp_path):
    listed = json.loads((abdomen / "datalist.json").read_text())
    (tmp_path / "datalist.json").write_text(json.dumps({**listed, "body_part": part}))
    with pytest.raises(ValueError, match=r"body_part is .*CHEST"):
        read_datalist(tmp_path)
