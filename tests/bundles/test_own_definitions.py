"""Another optimizer, schedule and loss, by the config of docs/training.md."""

from __future__ import annotations

import json

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


def parsed(workflow, id: str):
    return workflow.parser.get_parsed_content(id)
