"""Handlers that take the loss of each step: one's own, and that of MONAI's option --tracking."""

from __future__ import annotations

import json

import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS
from tiny import OVERRIDES, TAPS_OF_TEACHER, config, untrained

from monai_kd.bundle import Workflow, loss_of
from monai_kd.bundle.tracking import track_settings
from monai_kd.config import literal


@pytest.mark.parametrize("decollate", [False, True])
@pytest.mark.parametrize("bundle", ["seg_student", "cls_teacher"])
def test_a_handler_of_ones_own(bundle, decollate, class_dataset, tmp_path):
    store = {"_target_": "ignite.handlers.EpochOutputStore", "output_transform": "$kd.loss_of"}
    (tmp_path / "more.json").write_text(json.dumps({"+train#handlers": [store], "train#trainer#decollate": decollate}))
    places = {"dataset_dir": class_dataset, "output_dir": tmp_path / "out"}
    if bundle == "seg_student":
        places["teacher_checkpoint"] = untrained("seg_teacher", tmp_path / "teacher", taps=TAPS_OF_TEACHER)
    values = {**OVERRIDES[bundle], "epochs": 1, **{name: literal(str(path)) for name, path in places.items()}}
    workflow = Workflow([*config(bundle, "train"), str(tmp_path / "more.json")], workflow_type="train", **values)
    workflow.initialize()
    workflow.run()
    # What a picture of drawn slices says first.
    (picture,) = (each.title for each in workflow.value("validate#handlers"))
    assert picture == workflow.value("title")
    assert picture.startswith("SYNTHETIC phantoms: ")
    losses = workflow.value("train#handlers")[-1].data
    assert len(losses) == len(workflow.value("train#dataloader"))
    assert all(torch.is_tensor(loss) and loss.numel() == 1 and loss > 0 for loss in losses)
    workflow.finalize()


def test_the_handler_of_tracking():
    tracker = dict(DEFAULT_MLFLOW_SETTINGS["configs"]["trainer"])
    parser = ConfigParser({"train": {"handlers": [tracker, {"_target_": "StatsHandler"}]}})
    assert "tracking_uri" in track_settings(parser)
    assert parser["train::handlers"][0]["output_transform"] == "$kd.loss_of"
    assert parser["train::handlers"][1] == {"_target_": "StatsHandler"}
    # A file with settings of one's own.
    tracker["output_transform"] = "$lambda output: 1"
    track_settings(parser)
    assert parser["train::handlers"][0]["output_transform"] == "$lambda output: 1"


def test_without_a_loss():
    with pytest.raises(KeyError, match="loss"):
        loss_of({"pred": 1})
