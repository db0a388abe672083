"""What the weights that a run starts from were trained with, and the run is not, is said when it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from tiny import config

from monai_kd.bundle import Workflow
from monai_kd.handlers import RunSettings
from monai_kd.io.trained import save_trained
from monai_kd.transforms import NORMALIZATION_OF_VOLUMES

VOLUMES = {
    **{"modalities": ["T1", "T2"], "regions": {"tumour": [1]}, "orientation": "RAS", "spacing": [1.0, 1.0, 1.0]},
    "normalization": NORMALIZATION_OF_VOLUMES,
}
SLICES = {"mean": [0.5], "std": [0.5], "multiclass": False, "activation": "sigmoid", "mask_names": ["tumour"]}


def started(tmp_path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    save_trained({"weight": torch.zeros(1)}, tmp_path / "start" / "model.pt", before)
    settings = {**now, "init_checkpoint": str(tmp_path / "start" / "model.pt")}
    RunSettings(tmp_path / "run", settings).begin(Engine(lambda engine, batch: None))


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (SLICES, {**SLICES, "mean": [0.4]}, "mean was [0.5] and is [0.4]"),
        (SLICES, {**SLICES, "mask_names": ["lesion"]}, "mask_names was ['tumour'] and is ['lesion']"),
        (
            {"volumes": VOLUMES},
            {"volumes": {**VOLUMES, "spacing": None, "modalities": ["T2", "T1"]}},
            "modalities was ['T1', 'T2'] and is ['T2', 'T1']; volumes spacing was [1.0, 1.0, 1.0] and is None",
        ),
        ({"class_names": ["a", "b"]}, {"class_names": ["b", "a"]}, "class_names was ['a', 'b'] and is ['b', 'a']"),
    ],
)
def test_what_was_otherwise_is_said(tmp_path, caplog, before, now, said):
    started(tmp_path, before, now)
    assert f"init_checkpoint {tmp_path / 'start' / 'model.pt'} was trained otherwise: " in caplog.text
    assert said in caplog.text


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({**SLICES, "volumes": None}, SLICES),
        ({"volumes": VOLUMES}, {"volumes": {**VOLUMES, "regions": {"tumour": [1, 2]}}}),
        # A data set with other kinds of tumour has the same masks.
        ({**SLICES, "class_names": ["a", "b"]}, {**SLICES, "class_names": ["b", "c"], "weights": {"supervised": 1}}),
        # As those of 0.1 lack them.
        ({}, SLICES),
    ],
)
def test_nothing_is_said_of_the_same_inputs_and_outputs(tmp_path, caplog, before, now):
    started(tmp_path, before, now)
    assert "was trained otherwise" not in caplog.text


@pytest.mark.parametrize(("kept", "said"), [({}, True), ({"class": 0}, True), ({"class": 0.5}, False)])
def test_a_class_head_that_is_not_trained_further_is_said(tmp_path, caplog, kept, said):
    both = {**SLICES, "class_names": ["a", "b"], "weights": {"supervised": 1, "class": 0.5}}
    started(tmp_path, both, {**both, "weights": {"supervised": 1, **kept}})
    assert ("this run has no term 'class'" in caplog.text) is said


def test_volumes_keep_orientation_and_spacing_of_their_weights(tmp_path):
    described = {"bundle": "seg_student", "image_size": [16, 16, 16], "spatial_dims": 3, "in_channels": 2}
    described |= {"network_def": {"_target_": "BasicUNet"}, "volumes": {**VOLUMES, "orientation": "LPS"}}
    save_trained({"weight": torch.zeros(1)}, tmp_path / "model.pt", described)
    files = config("seg_student", "train", "volumes")
    for start, orientation, spacing in ((str(tmp_path / "model.pt"), "LPS", [1.0, 1.0, 1.0]), (None, "RAS", None)):
        parser = Workflow(files, workflow_type="train", init_checkpoint=start).parser
        assert parser.get_parsed_content("orientation") == orientation
        assert parser.get_parsed_content("spacing") == spacing
