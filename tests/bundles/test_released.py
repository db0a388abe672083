"""Programs that got no checkpoint use the bundle's own, and say which network that is."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from disc_slices import write_disc_slices
from monai.bundle import create_workflow
from students import classification_student, segmentation_student
from tiny import BUNDLES, TINY_STUDENT

from monai_kd.__main__ import command_parser
from monai_kd.bundle import released
from monai_kd.bundle.released import checkpoint_or_own, training_folder
from monai_kd.bundle.students import load_students
from monai_kd.config import build_network
from monai_kd.export.package import run_export
from monai_kd.handlers import LoadWeights
from monai_kd.io.checksum import file_sha256
from monai_kd.io.network_name import network_name
from monai_kd.label.app import run_label_app


@pytest.fixture
def bundles(tmp_path) -> Path:
    """Both students' bundles, with weights; those of the segmentation as released."""
    for name, student in (("seg_student", segmentation_student), ("cls_student", classification_student)):
        shutil.copytree(BUNDLES / name, tmp_path / "bundles" / name, ignore=shutil.ignore_patterns("models", "eval"))
        student(tmp_path / "bundles" / name / "models")
    file = tmp_path / "bundles" / "seg_student" / "configs" / "metadata.json"
    weights = tmp_path / "bundles" / "seg_student" / "models" / "model.pt"
    content = {**json.loads(file.read_text()), "version": "4.5.6", "weights_sha256": file_sha256(weights)}
    file.write_text(json.dumps(content))
    return tmp_path / "bundles"


def test_given_checkpoint_comes_first_and_none_is_an_error(bundles, tmp_path):
    own = bundles / "seg_student" / "models" / "model.pt"
    assert checkpoint_or_own(None, bundles / "seg_student", "--x") == own
    assert checkpoint_or_own(tmp_path / "given.pt", bundles / "seg_student", "--x") == tmp_path / "given.pt"
    own.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*model\.pt, so the network must be given: --x FILE"):
        checkpoint_or_own(None, bundles / "seg_student", "--x FILE")


def test_training_without_a_folder_leaves_the_weights_of_the_repository(bundles, tmp_path, caplog, monkeypatch):
    segmentation, classification = bundles / "seg_student", bundles / "cls_student"
    # A copy, as in the MONAI Label app, is trained in place.
    assert training_folder(segmentation) == f"{segmentation}/models"
    monkeypatch.setattr(released, "CHECKOUT", bundles)
    assert training_folder(classification) == f"{classification}/models"
    assert not caplog.records
    dataset = write_disc_slices(tmp_path / "slices")
    values = {**TINY_STUDENT, "recipe": "none", "epochs": 1, "dataset_dir": str(dataset)}
    before = file_sha256(segmentation / "models" / "model.pt")
    workflow = create_workflow(
        config_file=[str(segmentation / "configs" / "train.json")], workflow_type="train", **values
    )
    workflow.run()
    workflow.finalize()
    assert f"this run is written to {segmentation / 'runs'}; give --checkpoint" in caplog.text
    assert file_sha256(segmentation / "models" / "model.pt") == before
    assert sorted(path.name for path in (segmentation / "models").iterdir()) == ["model.pt", "settings.json"]
    assert (segmentation / "runs" / "model.pt").is_file()


def test_names(bundles, tmp_path):
    released = bundles / "seg_student" / "models" / "model.pt"
    sha256 = file_sha256(released)[:12]
    assert network_name(released) == f"seg_student 4.5.6, as released ({released}, SHA-256 {sha256} …)"
    trained = bundles / "cls_student" / "models" / "model.pt"
    assert network_name(trained).startswith(f"create_backbone of a training ({trained}, SHA-256 ")
    # A training into the folder of the bundle replaces its weights, but not its name.
    segmentation_student(released.parent, threshold=1)
    state = torch.load(released, weights_only=True)
    torch.save({key: value + 1 for key, value in state.items()}, released)
    assert network_name(released).startswith("BasicUNet of a training (")
    file = released.with_name("settings.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "synthetic": True}))
    assert network_name(released).startswith("BasicUNet of a training, trained on SYNTHETIC phantoms (")
    torch.save({"a": torch.zeros(1)}, tmp_path / "alone.pt")
    assert network_name(tmp_path / "alone.pt").startswith("a network of a training (")


def test_report_and_serve(bundles, capsys):
    students = load_students(bundles=bundles, device="cpu")
    printed = capsys.readouterr().out
    assert "segmentation: seg_student 4.5.6, as released (" in printed
    assert "classification: create_backbone of a training (" in printed
    assert students.segment.checkpoint == bundles / "seg_student" / "models" / "model.pt"
    # Pages name the released one, and of others the file.
    assert [facts.released for facts in students.checkpoints.values()] == ["seg_student 4.5.6", ""]


def test_report_and_serve_choose_precision_and_judge_all(bundles):
    for chosen in (True, False):
        students = load_students(bundles=bundles, device="cpu", amp=chosen, judge_unfit=chosen)
        for each in (students.segment, students.classify):
            assert (each.value("amp"), each.value("judge_unfit")) == (chosen, chosen)


def test_export(bundles, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert run_export("seg_student", None, tmp_path / "package", bundles) == 0
    assert "exported: seg_student 4.5.6, as released (" in capsys.readouterr().out
    (bundles / "seg_student" / "models" / "model.pt").unlink()
    assert run_export("seg_student", None, tmp_path / "other", bundles) == 2
    assert "so the network must be given: export BUNDLE CHECKPOINT FOLDER" in capsys.readouterr().err


def test_label_app(bundles, tmp_path, capsys):
    assert run_label_app(tmp_path / "both", bundles=bundles) == 0
    assert "segmentation: seg_student 4.5.6, as released (" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "both" / "model").iterdir()} == {"seg_student", "cls_student"}
    (bundles / "cls_student" / "models" / "model.pt").unlink()
    assert run_label_app(tmp_path / "one", bundles=bundles) == 0
    assert {path.name for path in (tmp_path / "one" / "model").iterdir()} == {"seg_student"}
    (bundles / "seg_student" / "models" / "model.pt").unlink()
    assert run_label_app(tmp_path / "none", bundles=bundles) == 2
    assert "nothing to serve" in capsys.readouterr().err


def test_evaluation_and_inference_log_it(bundles, caplog):
    caplog.set_level(logging.INFO)
    path = bundles / "seg_student" / "models" / "model.pt"
    network = build_network(json.loads((path.parent / "settings.json").read_text())["network_def"])
    LoadWeights(network, path)._load(None)
    assert "network: seg_student 4.5.6, as released (" in caplog.text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["report", "IN", "--output_dir", "OUT"], {"segmentation": None, "classification": None}),
        (["serve"], {"segmentation": None, "classification": None}),
        (["export", "seg_student", "OUT"], {"checkpoint": None, "output_dir": Path("OUT")}),
        (["export", "seg_student", "C", "OUT"], {"checkpoint": Path("C"), "output_dir": Path("OUT")}),
        (["label_app", "OUT"], {"segmentation": None, "classification": None}),
    ],
)
def test_command_line(words, expected):
    given = vars(command_parser().parse_args(words))
    assert given.items() >= expected.items()
