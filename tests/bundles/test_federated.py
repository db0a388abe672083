"""The simulation of docs/federated.md, with MONAI's client for federated learning."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import numpy as np
import pytest
import torch
from disc_slices import write_disc_slices
from documented import run
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType
from tiny import BUNDLES, NETWORKS, TAPS_OF_TEACHER, TINY, TINY_CLASSES, rows, untrained

from monai_kd.bundle import trained_network, trained_settings
from monai_kd.config import build_network, literal

SCRIPT = BUNDLES.parent / "docs" / "examples" / "federated.py"
OPTIONS = {
    "seg_student": {name: value for name, value in TINY.items() if name not in ("epochs", "logging_file")},
    "cls_student": {
        **{name: value for name, value in TINY_CLASSES.items() if name not in ("epochs", "logging_file")},
        "network_name": "test_efficientnet",
    },
}


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("federated", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", OPTIONS)
def test_two_clients(name, script, tmp_path, monkeypatch, caplog):
    """Of the second round, the common weights are the mean by slices; each client goes on with its own run."""
    # Each of the three folds has slices of every class.
    data = {
        "north": write_disc_slices(tmp_path / "a", 36, class_of=lambda patient: patient // 6),
        "south": write_disc_slices(tmp_path / "b", 18, class_of=lambda patient: patient // 3),
    }
    teacher = untrained(name.replace("student", "teacher"), tmp_path / "teacher", taps=TAPS_OF_TEACHER)
    options = {**OPTIONS[name], "teacher_checkpoint": literal(str(teacher))}
    if name == "cls_student":
        options["teacher_taps"] = {"msgff": "backbones.0.layer2"}
    clients, averaged, make, average = [], [], script.client, script.average
    monkeypatch.setattr(script, "client", lambda *a, **k: clients.append(make(*a, **k)) or clients[-1])
    monkeypatch.setattr(script, "average", lambda w, counts: averaged.append((w, counts)) or average(w, counts))
    history = script.simulate(BUNDLES / name, data, tmp_path / "out", rounds=2, **options)
    assert [set(each) for each in history] == [{"north", "south"}] * 2

    weights, counts = averaged[-1]
    # In each data set, one of the three folds validates.
    assert counts == [24, 12]
    network = trained_network(trained_settings(tmp_path / "out" / "model.pt"), tmp_path / "out" / "model.pt")
    assert list(network.state_dict()) == list(build_network(NETWORKS[name]).state_dict()) == list(weights[0])
    for key, value in network.state_dict().items():
        each = np.stack([w[key].numpy() for w in weights])
        expected = np.average(each, axis=0, weights=counts) if value.is_floating_point() else each[0]
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-7)

    for client, algo in zip(("north", "south"), clients, strict=True):
        models = tmp_path / "out" / client / name / "models"
        assert [row["epoch"] for row in rows(models)] == [1, 2]
        assert rows(models)[1]["learning_rate"] < rows(models)[0]["learning_rate"]
        assert "loss/logit" in rows(models)[0]
        assert not list(models.glob("earlier-*"))
        best = algo.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
        assert best.keys() == network.state_dict().keys()
        build_network(trained_settings(models / "model.pt")["network_def"]).load_state_dict(best, strict=True)
    assert "rises again" not in caplog.text


def test_a_schedule_of_one_round_is_a_warning(script, tmp_path, caplog):
    data = write_disc_slices(tmp_path / "a", 6)
    algo = script.client(BUNDLES / "seg_student", "a", data, tmp_path / "c", 1, recipe="none", **OPTIONS["seg_student"])
    sent = algo.get_weights()
    algo.train(sent)
    assert "rises again" not in caplog.text
    algo.train(sent)
    assert "the learning rate falls over 1 epochs, and this run has 2" in caplog.text
    assert all(torch.isfinite(value).all() for value in algo.get_weights().weights.values())


def test_line_of_the_page(lines, tmp_path, monkeypatch, capsys):
    """In two rounds in place of 20, with the widths of the tests."""
    (line,) = lines
    for name, count in (("HOSPITAL_A", 12), ("HOSPITAL_B", 6)):
        write_disc_slices(tmp_path / name, count)
    for name in ("bundles", "docs"):
        (tmp_path / name).symlink_to(BUNDLES.parent / name)
    untrained("seg_teacher", tmp_path / "runs" / "teacher", taps=TAPS_OF_TEACHER)
    make = MonaiAlgo.__init__

    def small(algo, *arguments, **given):
        more = {name: {**given[name], **OPTIONS["seg_student"]} for name in ("train_kwargs", "eval_kwargs")}
        make(algo, *arguments, **{**given, **more})

    monkeypatch.setattr(MonaiAlgo, "__init__", small)
    run(line, tmp_path, monkeypatch, instead={"rounds": 2})
    assert "round 2/2: client1 0." in capsys.readouterr().out
    settings = trained_settings(tmp_path / "federated" / "model.pt")
    assert settings["network_def"]["features"] == TINY["features"]
