"""Which teacher may teach: what it was trained on, and for which classes."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from monai_kd.bundle import provide_teacher, teacher, teacher_settings
from monai_kd.io.checkpoints import save_checkpoint
from monai_kd.io.checksum import file_sha256

NAMES = ["meningioma", "glioma", "pituitary"]


def build() -> nn.Module:
    return nn.Linear(1, 1)


def trained(folder: Path, settings: dict | None) -> str:
    """A checkpoint with what it says to have been trained on."""
    save_checkpoint(build().state_dict(), folder / "model.pt")
    if settings is not None:
        settings = {**settings, "weights_sha256": file_sha256(folder / "model.pt")}
        (folder / "settings.json").write_text(json.dumps(settings, default=str))
    return str(folder / "model.pt")


def provide(checkpoint: str, dataset: Path, output_dir: Path, fold: int = 0, leave_out: tuple[int, ...] = ()):
    overrides = {"dataset_dir": str(dataset), "fold": fold, "leave_out": list(leave_out)}
    return provide_teacher(build, checkpoint, True, "no bundle", overrides, str(output_dir))


@pytest.mark.parametrize(
    ("theirs", "own", "seen"),
    [
        ({"fold": 0, "leave_out": []}, {"fold": 0}, None),
        ({"fold": 1, "leave_out": []}, {"fold": 0}, [0]),
        ({"fold": 0, "leave_out": []}, {"fold": 0, "leave_out": (2,)}, [2]),
        ({"fold": 1, "leave_out": []}, {"fold": 0, "leave_out": (2,)}, [0, 2]),
        # kept from more than the student, or from the same in another order
        ({"fold": 0, "leave_out": [2]}, {"fold": 0}, None),
        ({"fold": 2, "leave_out": [0]}, {"fold": 0, "leave_out": (2,)}, None),
    ],
)
def test_teacher_that_saw_what_validates_the_student_is_said(disc_dataset, tmp_path, caplog, theirs, own, seen):
    checkpoint = trained(tmp_path, {"dataset_dir": disc_dataset, **theirs})
    provide(checkpoint, disc_dataset, tmp_path, **own)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (seen is not None)
    if seen:
        assert f"The teacher was TRAINED ON the folds {seen}" in warnings[0]


def test_teacher_of_other_data_is_said(disc_dataset, class_dataset, tmp_path, caplog):
    provide(trained(tmp_path, {"dataset_dir": class_dataset, "fold": 0}), disc_dataset, tmp_path)
    assert f"The teacher was trained on {class_dataset}, the student is on {disc_dataset}" in caplog.text


@pytest.mark.parametrize("settings", [None, {"epochs": 3}])
def test_teacher_of_unknown_data_is_said(disc_dataset, tmp_path, caplog, settings):
    provide(trained(tmp_path, settings), disc_dataset, tmp_path)
    assert "was trained on is not known" in caplog.text


@pytest.mark.parametrize("names", [["glioma", "meningioma", "pituitary"], NAMES[:2]])
def test_teacher_of_other_classes_is_refused(disc_dataset, tmp_path, names):
    checkpoint = trained(tmp_path, {"dataset_dir": disc_dataset, "fold": 0, "class_names": names})
    with pytest.raises(ValueError, match=rf"classes {', '.join(names)}, and .* has {', '.join(NAMES)}: give a teacher"):
        provide(checkpoint, disc_dataset, tmp_path)


def test_teacher_of_the_same_classes_is_loaded(disc_dataset, tmp_path):
    checkpoint = trained(tmp_path, {"dataset_dir": disc_dataset, "fold": 0, "class_names": NAMES})
    assert isinstance(provide(checkpoint, disc_dataset, tmp_path), nn.Linear)


def test_settings_of_a_given_teacher(tmp_path):
    checkpoint = trained(tmp_path, {"fold": 2, "leave_out": [1], "epochs": 9, "backbones": ["vgg19"], "workers": 7})
    assert teacher_settings(checkpoint, True, {}, "out") == {
        **{"checkpoint": checkpoint, "fold": 2, "leave_out": [1], "epochs": 9, "backbones": ["vgg19"]},
    }
    assert teacher_settings(checkpoint, False, {}, "out") is None


def test_settings_of_a_teacher_that_nothing_is_known_of(tmp_path, monkeypatch):
    trained(tmp_path, None)
    monkeypatch.chdir(tmp_path)
    assert teacher_settings("model.pt", True, {}, "out") == {"checkpoint": str(tmp_path / "model.pt")}


EPOCHS = 3


def provide_trained(monkeypatch, folder: Path, dataset: Path) -> list[bool]:
    """The teacher of a student that is given none; of each training that this costs, whether it is gone on with."""
    begun = []

    def train(output_dir: str, resume: bool, **_settings) -> SimpleNamespace:
        begun.append(resume)
        run = lambda: save_checkpoint(build().state_dict(), Path(output_dir) / "model.pt")  # noqa: E731
        return SimpleNamespace(run=run, finalize=lambda: None)

    monkeypatch.setattr(teacher, "create_workflow", train)
    (folder / "bundle" / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "bundle" / "configs" / "train.json").touch()
    provide_teacher(build, None, True, str(folder / "bundle"), overrides_of(dataset), str(folder / "run"))
    return begun


def overrides_of(dataset: Path, **other) -> dict:
    return {"dataset_dir": str(dataset), "fold": 0, "leave_out": [], "epochs": EPOCHS, "device": "cpu", **other}


def own_folder(folder: Path, overrides: dict) -> Path:
    """Where a student's own teacher is trained."""
    return Path(teacher_settings(None, True, overrides, str(folder))["checkpoint"]).parent


@pytest.mark.parametrize(
    ("epochs", "weights", "trainings"),
    [
        pytest.param(0, False, [False], id="none"),
        pytest.param(0, True, [False], id="killed-in-the-first-epoch"),
        pytest.param(1, True, [True], id="killed-later"),
        pytest.param(EPOCHS - 1, True, [True], id="killed-in-the-last-epoch"),
        pytest.param(EPOCHS, False, [False], id="weights-lost"),
        pytest.param(EPOCHS, True, [], id="done"),
    ],
)
def test_own_teacher_is_trained_to_its_end_once(disc_dataset, tmp_path, monkeypatch, epochs, weights, trainings):
    folder = own_folder(tmp_path / "run", overrides_of(disc_dataset))
    if weights:
        trained(folder, {"fold": 0})
    if epochs:
        save_checkpoint({"epoch": epochs}, folder / "last.ckpt")
    assert provide_trained(monkeypatch, tmp_path, disc_dataset) == trainings


def test_own_teacher_that_was_replaced_is_refused(disc_dataset, tmp_path, monkeypatch):
    folder = own_folder(tmp_path / "run", overrides_of(disc_dataset))
    trained(folder, {"fold": 0})
    save_checkpoint({"epoch": EPOCHS}, folder / "last.ckpt")
    torch.save(build().state_dict(), folder / "model.pt")
    with pytest.raises(ValueError, match="belongs to other weights"):
        provide_trained(monkeypatch, tmp_path, disc_dataset)


def test_own_teacher_is_told_by_its_settings_and_data_and_not_by_its_device(disc_dataset, tmp_path):
    copied = shutil.copytree(disc_dataset, tmp_path / "data")
    overrides = overrides_of(copied)
    folder = own_folder(tmp_path, overrides)
    # Of several processes, each has its own device, and all look in one folder.
    assert own_folder(tmp_path, {**overrides, "device": "cuda:1"}) == folder
    assert own_folder(tmp_path, {**overrides, "epochs": EPOCHS + 1}) != folder
    datalist = json.loads((copied / "datalist.json").read_text())
    datalist["training"][0]["fold"] += 1
    (copied / "datalist.json").write_text(json.dumps(datalist))
    assert own_folder(tmp_path, overrides) != folder
