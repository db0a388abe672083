"""Another optimizer, schedule and loss, by the config of docs/training.md."""

from __future__ import annotations

import json

import pytest
import torch
from documented import run, text_and_code
from monai.bundle import create_workflow
from tiny import BUNDLES, TINY_STUDENT, config, rows, settings_of, untrained

PAGE = BUNDLES.parent / "docs" / "training.md"


def test_the_config_of_the_page(lines, disc_dataset, tmp_path, monkeypatch):
    (own,) = (block for block in text_and_code(PAGE)[1] if "ReduceLROnPlateau" in block)
    config = json.loads(own)
    # Hardly any epoch is that much better than the one before, so that the rate falls at once.
    config["lr_scheduler"] |= {"patience": 0, "threshold": 0.999}
    (tmp_path / "own.json").write_text(json.dumps(config))
    (tmp_path / "bundles").symlink_to(BUNDLES)
    (tmp_path / "DATA").symlink_to(disc_dataset)
    untrained("seg_teacher", tmp_path / "runs" / "teacher", dataset_dir=str(disc_dataset), fold=0)
    (training,) = lines
    run(training, tmp_path, monkeypatch, **{**TINY_STUDENT, "teacher_overrides": {}, "epochs": 3})
    trained = tmp_path / "runs" / "focal"
    definitions = json.dumps(settings_of(trained)["definitions"])
    assert all(name in definitions for name in ("torch.optim.SGD", "ReduceLROnPlateau", "monai.losses.FocalLoss"))
    logged = rows(trained)
    assert [row["learning_rate"] for row in logged] == [0.01, 0.01, 0.005]
    assert all(row["weighted/focal"] == 0.5 * row["loss/focal"] > 0 for row in logged)


def test_the_handlers_of_the_page(disc_dataset, tmp_path):
    (block,) = (block for block in text_and_code(PAGE)[1] if "EarlyStopHandler" in block)
    added = json.loads(block)
    # No epoch is better than the first by as much.
    added["es"] |= {"patience": 1, "min_delta": 1.0}
    (tmp_path / "own.json").write_text(json.dumps(added))
    files = [*config("seg_student", "train"), str(tmp_path / "own.json")]
    values = {**TINY_STUDENT, "recipe": "none", "epochs": 5, "dataset_dir": str(disc_dataset)}
    workflow = create_workflow(config_file=files, workflow_type="train", output_dir=str(tmp_path / "run"), **values)
    before = {name: value.clone() for name, value in parsed(workflow, "network").state_dict().items()}
    workflow.run()
    assert len(rows(tmp_path / "run")) == 2
    assert parsed(workflow, "train#trainer").accumulation_steps == 2
    trained = dict(parsed(workflow, "network").named_parameters())
    changed = {name for name, value in trained.items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith("conv_0") for name in changed)


def test_the_schedules_of_the_page(disc_dataset, tmp_path):
    (block,) = (block for block in text_and_code(PAGE)[1] if "OneCycleLR" in block)
    (tmp_path / "own.json").write_text(block)
    untrained("seg_teacher", tmp_path / "teacher", dataset_dir=str(disc_dataset), fold=0)
    files = [*config("seg_student", "train"), str(tmp_path / "own.json")]
    values = {**TINY_STUDENT, "teacher_overrides": {}, "recipe": "kd", "epochs": 3, "dataset_dir": str(disc_dataset)}
    values |= {"teacher_checkpoint": str(tmp_path / "teacher" / "model.pt"), "output_dir": str(tmp_path / "run")}
    workflow = create_workflow(config_file=files, workflow_type="train", **values)
    workflow.run()
    batches = len(parsed(workflow, "train#dataloader"))
    logged, rate = rows(tmp_path / "run"), parsed(workflow, "learning_rate")
    assert [row["weighted/logit"] / row["loss/logit"] for row in logged] == pytest.approx([0.1, 0.2, 0.3])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=3 * batches)
    expected = []
    for step in range(3 * batches):
        expected += [optimizer.param_groups[0]["lr"]] * (step % batches == 0)
        optimizer.step()
        cycle.step()
    assert [row["learning_rate"] for row in logged] == pytest.approx(expected)
    assert settings_of(tmp_path / "run")["lr_step"] == "iteration"


def parsed(workflow, id: str):
    return workflow.parser.get_parsed_content(id)
