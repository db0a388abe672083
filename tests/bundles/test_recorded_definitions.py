"""settings.json tells what a training was built from, and a run is resumed with the same alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from monai.bundle import ConfigParser
from tiny import cause, settings_of, train

from monai_kd.bundle import recorded
from monai_kd.bundle.workflow import Running

NOISE = {"_target_": "RandGaussianNoised", "keys": "image", "prob": 1.0, "std": 0.1}
DICE = "$monai.losses.DiceLoss(sigmoid=True)"
RUN = {"recipe": "none", "epochs": 1, "augmentation": [NOISE]}


@pytest.fixture(scope="module")
def run(disc_dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train("seg_student", disc_dataset, folder, **RUN)
    return folder


def test_what_is_written_in_the_config(monkeypatch):
    config = {
        **{"epochs": 9, "rate": "@base", "base": 0.5, "names": ["@one", "two"], "one": "first", "objects": "$[print]"},
        **{"train": {"trainer": {"max_epochs": "@epochs"}}, "network": {"_target_": "torch.nn.Identity"}},
        "augmentation": [{"_target_": "Net", "keys": "@names", "mode": "$['a'] * 2"}, print, None, "@objects"],
        "optimizer": {"_target_": "SGD", "params": "$@network.parameters()", "lr": "@rate", "of": "@network"},
        "lr_scheduler": {"epochs": "@train#trainer#max_epochs", "also": "@train::trainer::max_epochs", "n": "@epochs"},
        "terms": {"a": {"weight": "@base", "deep": {"deeper": ["@one"]}, "loss": "@loss"}, "b": {"weight": 1}},
        # A definition by itself, and one that refers to itself.
        **{"loss": {"_target_": "Loss", "smooth": "@base", "of": "@loop"}, "loop": "@loop"},
    }
    monkeypatch.setattr("monai_kd.bundle.running.running", lambda: Running(ConfigParser(config)))
    found = recorded(["a"])
    assert found["augmentation"] == [
        {"_target_": "Net", "keys": ["first", "two"], "mode": "$['a'] * 2"},
        "builtin_function_or_method",
        None,
        "@objects",
    ]
    assert found["optimizer"] == {
        **{"_target_": "SGD", "params": "$@network.parameters()", "lr": 0.5},
        "of": "@network",
    }
    # A resumed run may have more epochs.
    assert found["lr_scheduler"] == config["lr_scheduler"]
    assert found["terms"] == {
        "a": {"weight": 0.5, "deep": {"deeper": ["first"]}, "loss": {"_target_": "Loss", "smooth": 0.5, "of": "@loop"}}
    }
    assert not {"terms", "loss_weight_schedules"} & recorded().keys()


def test_factors_of_loss_weights(monkeypatch):
    schedule = {"_target_": "monai_kd.handlers.LossWeightSchedule", "factors": {"logit": "$lambda epoch: epoch / 10"}}
    config = {"augmentation": [], "train": {"handlers": ["$print", {"_target_": "StatsHandler"}, schedule]}}
    monkeypatch.setattr("monai_kd.bundle.running.running", lambda: Running(ConfigParser(config)))
    assert recorded()["loss_weight_schedules"] == [schedule["factors"]]


def test_nothing_tells_about_the_computer(monkeypatch):
    """Nor is it compared, so that a run may go on elsewhere."""
    names = ("dataset_dir", "workers", "device", "output_dir", "cache_dir")
    free = {name: f"@{name}" for name in names}
    config = {
        **{"dataset_dir": "/home/someone/data", "workers": 3, "device": "cuda:1", "output_dir": "/scratch/run"},
        **{"cache_dir": "/scratch/cache", "augmentation": [{**free, "weights": "/home/someone/vgg.pth"}]},
        **{"optimizer": {}, "lr_scheduler": {}},
    }
    monkeypatch.setattr("monai_kd.bundle.running.running", lambda: Running(ConfigParser(config)))
    assert recorded()["augmentation"] == [{**free, "weights": "vgg.pth"}]


@pytest.mark.parametrize("given", [[NOISE], []])
def test_a_run_of_an_earlier_version_has_the_names_of_its_augmentation(run, given, disc_dataset, tmp_path):
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    settings = settings_of(copied)
    del settings["definitions"]
    (copied / "settings.json").write_text(json.dumps({**settings, "augmentation": ["RandGaussianNoised"]}))
    values = {**RUN, "augmentation": given, "resume": True, "epochs": 2}
    if given:
        train("seg_student", disc_dataset, copied, **values)
        return
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, copied, **values)
    assert "augmentation was ['RandGaussianNoised'] and is []" in cause(caught.value)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"terms#supervised#loss": DICE}, f"definitions terms supervised was .* and is .*{DICE[1:20]}"),
        ({"augmentation": [{**NOISE, "std": 0.2}]}, r"definitions augmentation was .*'std': 0\.1.*'std': 0\.2"),
        ({"optimizer#fused": False}, "definitions optimizer was .*'fused': True.* and is .*'fused': False"),
        ({"lr_scheduler#eta_min": 0}, "definitions lr_scheduler was"),
    ],
)
def test_a_run_is_resumed_with_what_it_was_built_from(run: Path, other, said, disc_dataset):
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, run, **{**RUN, "resume": True, "epochs": 2, **other})
    found = cause(caught.value)
    assert "has other settings" in found
    assert re.search(said, found), found


def test_more_epochs_are_no_other_schedule(run, disc_dataset):
    definitions = settings_of(run)["definitions"]
    assert definitions["augmentation"] == [NOISE]
    assert list(definitions["terms"]) == ["supervised"]
    train("seg_student", disc_dataset, run, **{**RUN, "resume": True, "epochs": 2})
    assert settings_of(run)["definitions"] == definitions
