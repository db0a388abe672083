"""What a request to MONAI Label may ask for, without MONAI Label."""

from __future__ import annotations

import json

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import partition_dataset

from monai_kd.label.request import check_training_part, literal_overrides, requested_device, training_request

# As MONAI Label names GPUs in its forms.
NAMES = {"Some GPU:0": "cuda:0", "Some GPU:1": "cuda:1"}
# All options of the stock task's form, as a client sends them back.
STOCK = {
    **{"device": ["cpu"], "pretrained": True, "max_epochs": 50, "val_split": 0.2, "multi_gpu": True, "gpus": "all"},
    **{"tracking": ["None", "mlflow"], "tracking_uri": "", "tracking_experiment_name": "", "run_id": ""},
    **{
        "model_filename": ["model.pt"],
        "model": "segmentation",
        "client_id": "me",
        "bundle_path": "/app",
        "local_rank": 0,
    },
}


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device: zeros(*size))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, "cuda"),
        ("", "cuda"),
        ([], "cuda"),
        ("cpu", "cpu"),
        ("cuda:1", "cuda:1"),
        ("Some GPU:1", "cuda:1"),
        (["Some GPU:0", "Some GPU:1"], "cuda:0"),
    ],
)
def test_devices(two_gpus, asked, expected):
    assert requested_device(asked, NAMES) == expected


@pytest.mark.parametrize("asked", ["Some GPU", "cuda:2", "$torch.device('cpu')", 0, True, {"a": 1}, [["cpu"]]])
def test_other_devices_are_refused(two_gpus, asked):
    with pytest.raises(ValueError, match="device must be one of cpu, cuda, cuda:0, cuda:1"):
        requested_device(asked, NAMES)


def test_what_the_stock_form_sends_is_taken(caplog):
    taken = {
        "model": "segmentation",
        "device": "cpu",
        "max_epochs": 50,
        "val_split": 0.2,
        "multi_gpu": True,
        "gpus": "all",
    }
    assert training_request(STOCK, {}) == taken
    # But for what has no meaning without tracking.
    assert "not used: 'tracking_experiment_name', 'tracking_uri'." in caplog.text
    # Nothing is filled in but the device: the stock task has its own defaults.
    assert training_request({"model": "segmentation", "device": "cpu"}, {}) == {
        "model": "segmentation",
        "device": "cpu",
    }


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        *(("max_epochs", value, "a whole number from 1") for value in (0, -1, 1.5, True, "3", None, {})),
        *(("val_split", value, "a number from 0 to 1") for value in (1, 1.5, -0.5, True, "0.2", None, float("nan"))),
        *(("multi_gpu", value, "true or false") for value in (1, "true", None)),
        *(("gpus", value, "'all', or numbers") for value in ("", "all,0", "0,", "-1", "0;1", 0, "٣", "0\n")),
        *(
            ("pretrained", value, "true: training starts from the served weights")
            for value in (False, "models/other.pt", None)
        ),
        *(
            ("model_filename", value, "'model.pt', the served")
            for value in ("other.pt", "../model.pt", "/tmp/model.pt")
        ),
        *(("run_id", value, "'run'") for value in ("initialize", "imports", "train#trainer", "--config_file", 1)),
        *(("tracking", value, "'None'") for value in ("mlflow", "/tmp/settings.json", {"configs": {}})),
    ],
)
def test_other_values_are_refused(option, value, message):
    with pytest.raises(ValueError, match=f"^{option} must be {message}"):
        training_request({**STOCK, option: value}, {})


def test_other_options_are_left_out_and_that_is_logged(caplog):
    more = {"learning_rate": 1, "network_def": {"_target_": "os.getcwd"}, "tracking_uri": "http://elsewhere"}
    assert training_request({**STOCK, **more}, {}) == training_request(STOCK, {})
    assert "options that are not used: 'learning_rate', 'network_def'" in caplog.text
    assert "elsewhere" not in caplog.text


def test_overrides_are_values_and_handlers_a_config(tmp_path):
    """Also when MONAI Label writes the whole config to a file first, as it does for several GPUs."""
    path = f"{tmp_path}/a#b/$1.nii.gz"
    items = [{"image": path, "label": "@device"}, {"image": "%device", "label": "$1 + 1"}]
    overrides = {
        "bundle_root": f"{tmp_path}/a#b",
        "train#trainer#max_epochs": 3,
        "train#dataset#data": items,
        "validate#dataset#data": [],
        "device": "cpu",
        "train#handlers": [{"_target_": "dict", "root": "@bundle_root"}],
    }
    parser = ConfigParser({"train": {"trainer": {}, "dataset": {}}, "validate": {"dataset": {}}})
    parser.update(literal_overrides(overrides))
    for read in (parser, ConfigParser(json.loads(json.dumps(parser.config)))):
        found = {name: read.get_parsed_content(name) for name in overrides}
        assert found.pop("train#handlers") == [{"root": f"{tmp_path}/a#b"}]
        assert found == {name: value for name, value in overrides.items() if name != "train#handlers"}


@pytest.mark.parametrize(("labels", "val_split", "trains"), [(1, 0.2, True), (4, 0.1, True), (4, 0.9, False)])
def test_a_split_must_leave_images_to_train_on(labels, val_split, trains):
    labelled = list(range(labels))
    # As MONAI Label divides them.
    training, _ = partition_dataset(labelled, ratios=[1 - val_split, val_split])
    if trains:
        check_training_part(training, labelled, val_split)
    else:
        with pytest.raises(ValueError, match=r"val_split 0\.9 of 4 labelled images leaves none to train on"):
            check_training_part(training, labelled, val_split)
