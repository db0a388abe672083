"""Settings beside checkpoints, and what an earlier run leaves in the folder of a new one."""

from __future__ import annotations

import json

import pytest

from monai_kd.atomic import write_json
from monai_kd.bundle import save_settings, saved_settings, training_settings


def run_folder(path):
    (path / "tensorboard").mkdir()
    for name in ("model.pt", "last.pt", "log.csv", "tensorboard/events"):
        (path / name).write_text(name)
    (path / "teacher-0123456789").mkdir()
    (path / "notes.txt").write_text("mine")
    return path


def test_an_earlier_run_is_put_aside_and_said(tmp_path, caplog):
    run_folder(tmp_path)
    save_settings({"epochs": 1}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("earlier-1", "notes.txt", "settings.json", "teacher-0123456789"),
    ]
    for name in ("model.pt", "last.pt", "log.csv", "tensorboard/events"):
        assert (tmp_path / "earlier-1" / name).read_text() == name
    assert "earlier-1" in caplog.text


def test_every_earlier_run_is_kept(tmp_path):
    for number in (1, 2, 3):
        save_settings({"number": number}, tmp_path)
        (tmp_path / "model.pt").write_text(str(number))
    kept = [json.loads((tmp_path / f"earlier-{number}" / "settings.json").read_text()) for number in (1, 2)]
    assert kept == [{"number": 1}, {"number": 2}]
    assert (tmp_path / "model.pt").read_text() == "3"


@pytest.mark.parametrize("resume", [True, False])
def test_resuming_keeps_the_run_where_it_is(tmp_path, resume):
    run_folder(tmp_path)
    save_settings({"resume": resume}, tmp_path)
    assert (tmp_path / "last.pt").is_file() == resume


def test_a_folder_without_a_checkpoint_is_left_alone(tmp_path, caplog):
    (tmp_path / "log.csv").write_text("epoch")
    save_settings({}, tmp_path)
    assert (tmp_path / "log.csv").is_file()
    assert not caplog.records


def test_values_come_back(tmp_path):
    save_settings({"features": [1, 2], "norm": "batch"}, tmp_path)
    (tmp_path / "model.pt").write_bytes(b"")
    assert saved_settings(tmp_path / "model.pt", {"features": [9], "image_size": 64}) == {
        "features": [1, 2],
        "image_size": 64,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[1, 2]", "not an object with names and values"), ("null", "not an object")],
)
def test_settings_that_are_none(tmp_path, content, message):
    (tmp_path / "model.pt").write_bytes(b"")
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        training_settings(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"settings\.json is .* restore it"):
        saved_settings(tmp_path / "model.pt", {"norm": "batch"})


def test_numbers_that_json_has_no_word_for_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("earlier")
    with pytest.raises(ValueError, match="JSON"):
        write_json({"mean": float("nan")}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 1
