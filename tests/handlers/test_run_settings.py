"""Settings beside checkpoints, and what an earlier run leaves in the folder of a new one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_kd.handlers import RunSettings, TrainingCheckpoint
from monai_kd.io.trained import read_trained


def begin(folder: Path, settings: dict, resume: bool = False, save: bool = True, serving: bool = False) -> None:
    engine = Engine(lambda engine, batch: None)
    if resume:
        # There is something to go on with.
        folder.joinpath("last.ckpt").touch()
    RunSettings(folder, settings, resume, save, serving).attach(engine)
    engine.run([0], max_epochs=1)


def train(
    folder: Path, first: int, settings: dict, count: int = 1, resume: bool = False, serving: bool = False
) -> None:
    """A run that finds ``count`` new bests, whose weights are the numbers from ``first``."""
    engine = Engine(lambda engine, batch: None)
    evaluator = Engine(lambda engine, batch: None)
    network = nn.Linear(1, 1, bias=False)
    log = SimpleNamespace(rows=[])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    TrainingCheckpoint(folder, network, nn.Identity(), optimizer, evaluator, log, resume=resume).attach(engine)
    RunSettings(folder, settings, resume, serving=serving).attach(engine)
    engine.scaler, engine.state.device = None, "cpu"

    @engine.on(Events.ITERATION_COMPLETED)
    def better(engine: Engine) -> None:
        nn.init.constant_(network.weight, first + engine.state.epoch - 1)
        evaluator.state.best_metric, evaluator.state.best_metric_epoch = 1.0, engine.state.epoch

    engine.run([0], max_epochs=count)


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
    assert [each["number"] for each in kept] == [1, 2]
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
        pytest.param({"workers": 2, "resume": True, "val_interval": 3}, id="how-not-what"),
        pytest.param({"features": [4, 8], "device": "cpu"}, id="the-same-as-text"),
        pytest.param({"new_in_a_later_version": 1}, id="unknown-then"),
    ],
)
def test_a_run_can_be_gone_on_with(tmp_path, changed):
    begin(tmp_path, SETTINGS)
    begin(tmp_path, {**SETTINGS, **changed}, resume=True)
    written = json.loads((tmp_path / "settings.json").read_text())
    assert all(written[name] == value for name, value in changed.items())


def test_a_run_without_a_finished_epoch_is_begun_anew(tmp_path):
    """Its settings hold nothing back; weights that may lie there are moved, as those of any earlier run."""
    begin(tmp_path, SETTINGS)
    (tmp_path / "model.pt").touch()
    engine = Engine(lambda engine, batch: None)
    RunSettings(tmp_path, {**SETTINGS, "fold": 1, "resume": True}, resume=True).attach(engine)
    engine.run([0], max_epochs=1)
    assert json.loads((tmp_path / "settings.json").read_text())["fold"] == 1
    assert (tmp_path / "earlier-1" / "model.pt").is_file()


@pytest.mark.parametrize(("before", "now"), [(True, False), (False, True)])
def test_a_run_goes_on_in_the_precision_of_another_computer(tmp_path, before, now, caplog):
    begin(tmp_path, {**SETTINGS, "amp": before})
    begin(tmp_path, {**SETTINGS, "amp": before}, resume=True)
    assert not caplog.records
    begin(tmp_path, {**SETTINGS, "amp": now}, resume=True)
    assert f"amp was {before} until now and is {now} from now on" in caplog.text
    assert f"--amp {before} for the same" in caplog.text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fold": 1}, "fold was 0 and is 1"),  # its validation patients would have been trained on
        ({"features": (4, 4)}, r"features was \[4, 8\] and is \[4, 4\]"),
        ({"ema": 0.9}, "ema was None and is 0.9"),
    ],
)
def test_another_run_is_not_gone_on_with(tmp_path, changed, message):
    begin(tmp_path, SETTINGS)
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(ValueError, match=f"has other settings: {message}"):
        begin(tmp_path, {**SETTINGS, **changed}, resume=True)
    assert (tmp_path / "settings.json").read_bytes() == before


@pytest.mark.parametrize(("before", "now"), [(0.9, None), (None, 0.9)])
def test_an_average_is_neither_begun_nor_given_up_on_the_way(tmp_path, before, now):
    begin(tmp_path, {**SETTINGS, **({"ema": before} if before else {})})
    with pytest.raises(ValueError, match=f"ema was {before} and is {now}"):
        begin(tmp_path, {**SETTINGS, **({"ema": now} if now else {})}, resume=True)


def test_slices_without_a_tumour_are_neither_begun_with_nor_left_out_on_the_way(tmp_path):
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "datalist.json").write_text(json.dumps({"training": []}))
    begin(tmp_path / "run", {**SETTINGS, "negatives_dir": str(tmp_path / "heads")})
    with pytest.raises(ValueError, match=r"negatives_sha256 was '[0-9a-f]{64}' and is None"):
        begin(tmp_path / "run", {**SETTINGS, "negatives_dir": None}, resume=True)


def moved(tmp_path: Path) -> tuple[dict, dict]:
    """Settings of a run in ``old/runs/1``, and those of the same run after ``old`` was renamed to ``new``."""
    data = {"synthetic": True, "training": []}
    both = []
    for name in ("old", "new"):
        root = tmp_path / name
        teacher = {"checkpoint": str(root / "teacher" / "model.pt"), "dataset_dir": str(root / "data"), "epochs": 3}
        places = {"dataset_dir": str(root / "data"), "bundle_root": f"/opt/{name}/seg"}
        both.append({**SETTINGS, **places, "teacher": teacher})
    (tmp_path / "old" / "data").mkdir(parents=True)
    (tmp_path / "old" / "data" / "datalist.json").write_text(json.dumps(data))
    return both[0], both[1]


def test_places_are_relative_and_say_nothing_of_the_computer(tmp_path):
    settings, _ = moved(tmp_path)
    folder = tmp_path / "old" / "runs" / "1"
    train(folder, 1, {**settings, "teacher_store": "/no/such/store"})
    text = (folder / "settings.json").read_text()
    assert str(tmp_path) not in text
    assert "/opt" not in text
    written = json.loads(text)
    assert (written["dataset_dir"], written["teacher"]["checkpoint"]) == ("../../data", "../../teacher/model.pt")
    assert (written["bundle"], written["teacher_store"], written["synthetic"]) == ("seg", None, True)
    # Whoever asks gets the places.
    assert read_trained(folder / "model.pt")["dataset_dir"] == settings["dataset_dir"]


def test_a_run_whose_folders_moved_can_be_gone_on_with(tmp_path):
    before, after = moved(tmp_path)
    train(tmp_path / "old" / "runs" / "1", 1, before)
    (tmp_path / "old").rename(tmp_path / "new")
    folder = tmp_path / "new" / "runs" / "1"
    train(folder, 1, after, count=2, resume=True)
    assert read_trained(folder / "model.pt")["dataset_dir"] == after["dataset_dir"]
    # Not with another teacher, or other data, wherever they are.
    other = {**after, "teacher": {**after["teacher"], "epochs": 4}}
    with pytest.raises(ValueError, match="teacher epochs was 3 and is 4"):
        train(folder, 1, other, count=3, resume=True)
    (tmp_path / "new" / "data" / "datalist.json").write_text("{}")
    with pytest.raises(ValueError, match="datalist_sha256 was"):
        train(folder, 1, after, count=3, resume=True)


def test_settings_that_are_put_aside_name_the_same_places(tmp_path):
    settings, _ = moved(tmp_path)
    folder = tmp_path / "old" / "runs" / "1"
    for number in (1, 2):
        train(folder, number, settings)
    assert json.loads((folder / "earlier-1" / "settings.json").read_text())["dataset_dir"] == "../../../data"
    assert read_trained(folder / "earlier-1" / "model.pt")["dataset_dir"] == settings["dataset_dir"]


def test_a_run_of_before_is_gone_on_with_in_its_own_data_alone(tmp_path):
    """Without the hash of the data list, the folder must be the same."""
    settings, other = moved(tmp_path)
    begin(tmp_path, settings)
    written = {**json.loads((tmp_path / "settings.json").read_text()), "dataset_dir": settings["dataset_dir"]}
    del written["datalist_sha256"]
    (tmp_path / "settings.json").write_text(json.dumps(written))
    begin(tmp_path, settings, resume=True)
    (tmp_path / "settings.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match="dataset_dir was"):
        begin(tmp_path, other, resume=True)


def test_a_place_that_was_left_out_is_no_difference(tmp_path):
    """Of a teacher of earlier versions, the folder of its data is all that is known of them."""
    settings = {**SETTINGS, "teacher": {"checkpoint": "/elsewhere/model.pt", "dataset_dir": "/elsewhere/data"}}
    begin(tmp_path, settings)
    assert json.loads((tmp_path / "settings.json").read_text())["teacher"]["dataset_dir"] is None
    begin(tmp_path, settings, resume=True)


@pytest.mark.parametrize("content", ["{", "[1, 2]", "null"])
def test_settings_that_cannot_be_read_are_said(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=r"settings\.json is (not )?JSON.*; restore it"):
        begin(tmp_path, SETTINGS, resume=True)
    assert (tmp_path / "settings.json").read_text() == content


def test_values_come_back(tmp_path):
    train(tmp_path, 1, {"features": [1, 2], "norm": "batch"})
    saved = read_trained(tmp_path / "model.pt")
    assert saved is not None
    assert {name: saved[name] for name in ("features", "norm")} == {"features": [1, 2], "norm": "batch"}


class Killed(BaseException):
    """Nobody catches this: what was done by then is done."""


def killed_before(step: int, monkeypatch: pytest.MonkeyPatch, act) -> bool:
    """Whether ``act`` was ended before it did so many steps that change which files there are under which names."""
    left = step

    def counting(change):
        def counted(*args, **kwargs):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return change(*args, **kwargs)

        return counted

    with monkeypatch.context() as patched:
        for module, name in ((os, "replace"), (os, "rename"), (os, "mkdir"), (shutil, "copy2")):
            patched.setattr(module, name, counting(getattr(module, name)))
        try:
            act()
        except Killed:
            return True
    return False


def weights_and_their_run(folder: Path) -> list[tuple[int, str]]:
    found = []
    for model in folder.rglob("model.pt"):
        number = int(torch.load(model, weights_only=True)["weight"])
        found.append((number, read_trained(model)["name"]))
    return sorted(found)


@pytest.mark.parametrize("serving", [False, True])
def test_weights_have_their_own_settings_whenever_a_run_is_killed(tmp_path, monkeypatch, caplog, serving):
    """The weights of run A are the numbers from 10, those of B from 20; B is killed at every step, and begun again."""
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        train(folder, 10, {"name": "A"}, count=2)
        assert weights_and_their_run(folder) == [(11, "A")]
        killed = killed_before(steps, monkeypatch, lambda: train(folder, 20, {"name": "B"}, count=3, serving=serving))  # noqa: B023
        pairs = weights_and_their_run(folder)
        assert (11, "A") in pairs
        assert all(name == ("A" if number < 20 else "B") for number, name in pairs), pairs
        if not killed:
            assert (22, "B") in pairs
            break
        train(folder, 30, {"name": "C"}, serving=serving)
        assert (30, "C") in weights_and_their_run(folder)
        assert (11, "A") in weights_and_their_run(folder)
        steps += 1
    assert steps > 10
    assert not caplog.text.count("SHA-256")


def test_a_run_that_was_killed_between_weights_and_checkpoint_goes_on(tmp_path, monkeypatch):
    settings, steps, interrupted = {"name": "A"}, 0, set()
    while True:
        folder = tmp_path / str(steps)
        if not killed_before(steps, monkeypatch, lambda: train(folder, 1, settings, count=3)):  # noqa: B023
            break
        interrupted.add(tuple(name for name in ("last.ckpt", "model.pt") if (folder / name).is_file()))
        train(folder, 1, settings, count=4, resume=True)
        assert weights_and_their_run(folder) == [(4, "A")]
        steps += 1
    assert interrupted == {(), ("model.pt",), ("last.ckpt", "model.pt")}


@pytest.mark.parametrize("resume", [True, False])
def test_going_on_or_serving_beside_settings_of_another_run_is_refused(tmp_path, resume):
    train(tmp_path, 1, {"name": "A"})
    train(tmp_path / "other", 7, {"name": "A"})
    shutil.copy(tmp_path / "other" / "model.pt", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=r"settings\.json belongs to other weights than .*model\.pt"):
        train(tmp_path, 2, {"name": "A"}, count=2, resume=resume, serving=not resume)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_weights_that_are_put_aside_keep_fitting(tmp_path):
    for number in (1, 2, 3):
        train(tmp_path, number, {"name": str(number)})
    assert weights_and_their_run(tmp_path) == [(1, "1"), (2, "2"), (3, "3")]


def test_while_nothing_is_better_served_weights_keep_their_settings(tmp_path):
    train(tmp_path, 1, {"name": "A"})
    begin(tmp_path, {"name": "B"}, serving=True)
    assert read_trained(tmp_path / "model.pt")["name"] == "A"
    assert json.loads((tmp_path / "settings.json").read_text())["name"] == "B"


def test_without_run_settings_nothing_is_said_of_the_weights(tmp_path, monkeypatch):
    train(tmp_path, 1, {"name": "A"})
    monkeypatch.setattr(RunSettings, "attach", lambda self, engine: None)
    train(tmp_path, 2, {"name": "B"})
    with pytest.raises(ValueError, match="belongs to other weights"):
        read_trained(tmp_path / "model.pt")
