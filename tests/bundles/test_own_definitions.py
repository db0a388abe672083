"""Another optimizer, schedule and loss, by the config of docs/training.md."""

from __future__ import annotations

import json

from documented import run, text_and_code
from tiny import BUNDLES, TINY_STUDENT, rows, settings_of, untrained

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
