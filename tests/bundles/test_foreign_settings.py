"""Weights beside the settings of another run: refused by whatever loads weights, before it does anything."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import create_workflow
from tiny import BUNDLES, NETWORKS, cause, config, described, prepare

from monai_kd.bundle import Teacher, trained_settings
from monai_kd.bundle.students import load_students
from monai_kd.config import build_network
from monai_kd.export.package import export_package
from monai_kd.inference import BundlePredictor
from monai_kd.io.trained import begin_settings, read_trained, save_trained
from monai_kd.label import make_app

BUNDLE = BUNDLES / "seg_student"


def student(folder: Path, seed: int, **settings) -> Path:
    torch.manual_seed(seed)
    state, told = build_network(NETWORKS["seg_student"]).state_dict(), described("seg_student", **settings)
    begin_settings(told, folder / "model.pt")
    save_trained(state, folder / "model.pt", told)
    return folder / "model.pt"


@pytest.fixture
def pair(tmp_path) -> Path:
    return student(tmp_path / "run", 0, fold=0)


@pytest.fixture
def mixed(pair, tmp_path) -> Path:
    """The weights of one run, beside the settings of one with the same widths and another fold."""
    other = student(tmp_path / "other", 1, fold=1)
    shutil.copy(other.parent / "settings.json", pair.parent)
    return pair


def teacher_of(checkpoint: Path, folder: Path) -> Teacher:
    return Teacher(str(checkpoint), BUNDLE, folder, {"dataset_dir": None, "fold": 0, "leave_out": []})


USES = {
    "settings": lambda checkpoint, folder, data: read_trained(checkpoint),
    "values": lambda checkpoint, folder, data: trained_settings(checkpoint, BUNDLE),
    "teacher": lambda checkpoint, folder, data: teacher_of(checkpoint, folder).load(),
    "teacher-settings": lambda checkpoint, folder, data: teacher_of(checkpoint, folder).settings,
    "teacher-of-a-run": lambda checkpoint, folder, data: prepare(
        "seg_student", data, folder, teacher_checkpoint=str(checkpoint)
    ),
    "start-of-a-run": lambda checkpoint, folder, data: prepare(
        "seg_student", data, folder, init_checkpoint=str(checkpoint), recipe="none"
    ),
    "predictor": lambda checkpoint, folder, data: BundlePredictor(BUNDLE, checkpoint, device="cpu"),
    "export": lambda checkpoint, folder, data: export_package(BUNDLE, checkpoint, folder),
    "label": lambda checkpoint, folder, data: make_app(folder, {"segmentation": checkpoint}),
    **{
        name: lambda checkpoint, folder, data, name=name: create_workflow(
            config_file=config("seg_student", name),
            workflow_type="train",
            **{"checkpoint": str(checkpoint), "output_dir": str(folder), "logging_file": False},
        )
        for name in ("evaluate", "inference")
    },
    "report-and-serve": lambda checkpoint, folder, data: load_students(checkpoint, checkpoint, device="cpu"),
}


@pytest.mark.parametrize("use", USES)
def test_is_refused(mixed, tmp_path, disc_dataset, use):
    with pytest.raises((ValueError, RuntimeError)) as caught:
        USES[use](mixed, tmp_path / "out", disc_dataset)
    said = cause(caught.value)
    assert said.startswith("ValueError: ")
    assert f"{mixed.parent / 'settings.json'} belongs to other weights than {mixed}" in said
    assert "Restore the two files of one run" in said
    assert not (tmp_path / "out").exists()


def test_a_copy_for_a_server_fits(pair, tmp_path):
    make_app(tmp_path / "app", {"segmentation": pair})
    copied = tmp_path / "app" / "model" / "seg_student" / "models" / "model.pt"
    assert read_trained(copied) == read_trained(pair)
    assert read_trained(copied)["fold"] == 0


def test_weights_that_are_replaced_while_they_are_copied(pair, tmp_path, monkeypatch):
    copy = shutil.copyfile

    def slow(source, target, **how):
        if Path(source) == pair:
            student(pair.parent, 2, fold=1)
        return copy(source, target, **how)

    monkeypatch.setattr(shutil, "copyfile", slow)
    with pytest.raises(ValueError, match=rf"{pair} was replaced while it was copied"):
        make_app(tmp_path / "app", {"segmentation": pair})
    assert not (tmp_path / "app").exists()
