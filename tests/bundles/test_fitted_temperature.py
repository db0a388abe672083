"""A temperature that lies beside the checkpoint of a classifier is used, and only where it was fitted to that one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from tiny import BUNDLES, untrained

from monai_kd.bundle.temperature import find_temperature, temperature_of
from monai_kd.inference import BundlePredictor


def fitted(path: Path, temperature: float, checkpoint: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    path.write_text(json.dumps({"temperature": temperature, "slices": 9, "checkpoint": {"sha256": sha256}}))


@pytest.mark.parametrize("place", ["temperature.json", "evaluation/temperature.json"])
@pytest.mark.parametrize("bundle", ["cls_student", "cls_teacher"])
def test_it_is_used_by_inference(bundle, place, tmp_path):
    checkpoint = untrained(bundle, tmp_path)
    assert temperature_of(checkpoint) == 1.0
    fitted(tmp_path / place, 1.75, checkpoint)
    assert BundlePredictor(BUNDLES / bundle, checkpoint, device="cpu").value("temperature") == 1.75
    # A given one comes first.
    assert BundlePredictor(BUNDLES / bundle, checkpoint, device="cpu", temperature=3.0).value("temperature") == 3.0


def test_one_of_other_weights_is_left_out_and_logged(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    checkpoint = untrained("cls_student", tmp_path / "a")
    (tmp_path / "before.pt").write_bytes(b"earlier weights")
    fitted(tmp_path / "a" / "temperature.json", 2.0, tmp_path / "before.pt")
    assert temperature_of(checkpoint) == 1.0
    assert "fitted to another checkpoint" in caplog.text
    # The one of the later evaluation is found all the same.
    fitted(tmp_path / "a" / "evaluation" / "temperature.json", 1.5, checkpoint)
    assert find_temperature(checkpoint) == tmp_path / "a" / "evaluation" / "temperature.json"


@pytest.mark.parametrize(
    "content", ["", "[]", '{"temperature": 2}', '{"temperature": -1, "checkpoint": {"sha256": ""}}']
)
def test_a_damaged_one_is_left_out_and_logged(content, tmp_path, caplog):
    checkpoint = untrained("cls_student", tmp_path)
    (tmp_path / "temperature.json").write_text(content)
    assert temperature_of(checkpoint) == 1.0
    assert "temperature.json is not used" in caplog.text
