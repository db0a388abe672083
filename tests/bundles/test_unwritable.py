"""Folders that can't be written to are named before any network runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from disc_slices import write_disc_slices
from monai.bundle import create_workflow
from monai.networks.nets import BasicUNet
from tiny import BUNDLES, TINY_STUDENT, config, untrained

from data_prep.disk import check_writable
from monai_kd.__main__ import main
from monai_kd.config import cause_of
from monai_kd.distillation import TeacherStore
from monai_kd.export import export_package
from monai_kd.report import run_report


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder below a file, and networks that must not run."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(BasicUNet, "forward", lambda *_: pytest.fail("the network runs"))
    return tmp_path / "file" / "out"


@pytest.mark.parametrize("kind", ["train", "evaluate", "inference"])
def test_runs(kind, folder, tmp_path):
    data = write_disc_slices(tmp_path / "data", 6)
    values = {"output_dir": str(folder), "device": "cpu", "logging_file": False, "workflow_type": "infer"}
    if kind == "train":
        values |= {**TINY_STUDENT, "dataset_dir": str(data), "recipe": "none", "workflow_type": "train"}
    else:
        values["checkpoint"] = str(untrained("seg_student", tmp_path))
        values |= {"input": str(data / "images")} if kind == "inference" else {"dataset_dir": str(data)}
    workflow = create_workflow(config_file=config("seg_student", kind), **values)
    with pytest.raises((RuntimeError, OSError)) as caught:
        workflow.run()
    # What the command line prints.
    assert f"{folder} can't be written to: Not a directory" in str(cause_of(caught.value))


def test_report(folder, tmp_path, capsys):
    data = write_disc_slices(tmp_path / "data", 6)
    students = {"segmentation": "seg_student", "classification": "cls_student"}
    checkpoints = {what: untrained(name, tmp_path / name) for what, name in students.items()}
    assert run_report(data / "images", folder, **checkpoints, device="cpu") == 2
    assert f"{folder} can't be written to: Not a directory" in capsys.readouterr().err


def test_export(folder, tmp_path):
    with pytest.raises(OSError, match=rf"{folder} can't be written to: ") as caught:
        export_package(BUNDLES / "seg_student", untrained("seg_student", tmp_path), folder / "package")
    assert "Choose another folder" in str(caught.value)


def test_classes(folder, tmp_path):
    data = write_disc_slices(tmp_path / "data", 6)
    values = {"output_dir": str(folder), "device": "cpu", "logging_file": False, "workflow_type": "infer"}
    values |= {"checkpoint": str(untrained("cls_student", tmp_path)), "input": str(data / "images")}
    workflow = create_workflow(config_file=config("cls_student", "inference"), **values)
    with pytest.raises((RuntimeError, OSError)) as caught:
        workflow.run()
    assert f"{folder} can't be written to: Not a directory" in str(cause_of(caught.value))


@pytest.mark.parametrize("command", ["archive", "pack", "label_app", "familiarity", "benchmark"])
def test_commands(command, folder, tmp_path, capsys, monkeypatch):
    checkpoint, data = untrained("seg_student", tmp_path), write_disc_slices(tmp_path / "data", 6)
    arguments = {
        "archive": ["seg_student", str(checkpoint), str(data / "images"), str(folder)],
        "pack": ["seg_student", str(checkpoint), str(folder)],
        "label_app": [str(folder / "app"), "--segmentation", str(checkpoint)],
        "familiarity": ["seg_student", str(checkpoint), str(data)],
        "benchmark": ["--tiny", "--json", str(folder / "found.json")],
    }[command]
    if command == "archive":
        pytest.importorskip("submitit")
    if command == "familiarity":
        monkeypatch.setattr("monai_kd.bundle.familiarity.check_writable", lambda _: check_writable(folder))
    assert main([command, *arguments]) == 2
    said = capsys.readouterr().err
    assert str(folder) in said
    assert "Not a directory" in said


def test_store_of_a_teacher(folder):
    with pytest.raises(OSError, match=rf"{folder} can't be written to: "):
        TeacherStore(folder)
