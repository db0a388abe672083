"""Settings beside checkpoints, and what an earlier run leaves in the folder of a new one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events

from monai_kd.bundle import saved_settings
from monai_kd.handlers import RunSettings


def begin(folder: Path, settings: dict, resume: bool = False, save: bool = True, serving: bool = False) -> None:
    engine = Engine(lambda engine, batch: None)
    RunSettings(folder, settings, resume, save, serving).attach(engine)
    engine.run([0], max_epochs=1)


def run_folder(path: Path) -> Path:
    (path / "tensorboard").mkdir()
    for name in ("model.pt", "last.ckpt", "log.csv", "tensorboard/events"):
        (path / name).write_text(name)
    (path / "teacher-0123456789").mkdir()
    (path / "notes.txt").write_text("mine")
    return path


def test_an_earlier_run_is_put_aside_and_said(tmp_path, caplog):
    run_folder(tmp_path)
    begin(tmp_path, {"epochs": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("earlier-1", "notes.txt", "settings.json", "teacher-0123456789"),
    ]
    for name in ("model.pt", "last.ckpt", "log.csv", "tensorboard/events"):
        assert (tmp_path / "earlier-1" / name).read_text() == name
    assert "earlier-1" in caplog.text


def test_a_model_that_somebody_serves_stays_too(tmp_path):
    run_folder(tmp_path)
    begin(tmp_path, {}, serving=True)
    assert [(tmp_path / name).read_text() for name in ("model.pt", "earlier-1/model.pt")] == ["model.pt", "model.pt"]
    assert not (tmp_path / "last.ckpt").exists()


def test_every_earlier_run_is_kept(tmp_path):
    for number in (1, 2, 3):
        begin(tmp_path, {"number": number})
        (tmp_path / "model.pt").write_text(str(number))
    kept = [json.loads((tmp_path / f"earlier-{number}" / "settings.json").read_text()) for number in (1, 2)]
    assert kept == [{"number": 1}, {"number": 2}]
    assert (tmp_path / "model.pt").read_text() == "3"


@pytest.mark.parametrize("resume", [True, False])
def test_resuming_keeps_the_run_where_it_is(tmp_path, resume):
    run_folder(tmp_path)
    begin(tmp_path, {"resume": resume}, resume)
    assert (tmp_path / "last.ckpt").is_file() == resume


def test_nothing_is_touched_before_training_begins(tmp_path):
    run_folder(tmp_path)
    engine = Engine(lambda engine, batch: None)

    @engine.on(Events.STARTED)
    def fail(_engine):
        raise ValueError("what is attached before, such as a checkpoint that does not fit")

    RunSettings(tmp_path, {"epochs": 1}).attach(engine)
    with pytest.raises(ValueError, match="does not fit"):
        engine.run([0], max_epochs=1)
    assert (tmp_path / "model.pt").is_file()
    assert not (tmp_path / "settings.json").exists()


def test_a_folder_without_a_checkpoint_is_left_alone(tmp_path, caplog):
    (tmp_path / "log.csv").write_text("epoch")
    begin(tmp_path, {})
    assert (tmp_path / "log.csv").is_file()
    assert not caplog.records


def test_process_that_does_not_save(tmp_path):
    run_folder(tmp_path)
    begin(tmp_path, {"epochs": 1}, save=False)
    assert (tmp_path / "last.ckpt").is_file()
    assert not (tmp_path / "settings.json").exists()


SETTINGS = {"fold": 0, "features": (4, 8), "device": torch.device("cpu"), "epochs": 2, "workers": 0, "resume": False}


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"epochs": 5}, id="longer"),
        pytest.param({"workers": 2, "resume": True, "teacher_store": "store"}, id="how-not-what"),
        pytest.param({"features": [4, 8], "device": "cpu"}, id="the-same-as-text"),
        pytest.param({"new_in_a_later_version": 1}, id="unknown-then"),
    ],
)
def test_a_run_can_be_gone_on_with(tmp_path, changed):
    begin(tmp_path, SETTINGS)
    begin(tmp_path, {**SETTINGS, **changed}, resume=True)
    written = json.loads((tmp_path / "settings.json").read_text())
    assert all(written[name] == value for name, value in changed.items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fold": 1}, "fold was 0 and is 1"),  # its validation patients would have been trained on
        ({"features": (4, 4)}, r"features was \[4, 8\] and is \[4, 4\]"),
    ],
)
def test_another_run_is_not_gone_on_with(tmp_path, changed, message):
    begin(tmp_path, SETTINGS)
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(ValueError, match=f"was made otherwise: {message}"):
        begin(tmp_path, {**SETTINGS, **changed}, resume=True)
    assert (tmp_path / "settings.json").read_bytes() == before


@pytest.mark.parametrize("content", ["{", "[1, 2]", "null"])
def test_settings_that_cannot_be_read_are_said(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=r"settings\.json can't be read"):
        begin(tmp_path, SETTINGS, resume=True)


def test_values_come_back(tmp_path):
    begin(tmp_path, {"features": [1, 2], "norm": "batch"})
    (tmp_path / "model.pt").write_bytes(b"")
    assert saved_settings(tmp_path / "model.pt", {"features": [9], "image_size": 64}) == {
        "features": [1, 2],
        "image_size": 64,
    }
