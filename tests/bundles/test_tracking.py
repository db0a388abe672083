"""Experiment tracking with MLflow, by MONAI's option, in a database of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from disc_slices import write_disc_slices
from documented import run
from tiny import BUNDLES, OVERRIDES, TAPS_OF_TEACHER, TINY_STUDENT, config, untrained

from monai_kd.bundle import Workflow
from monai_kd.config import literal

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow")

EXPECTED: dict[str, dict[str, str]] = {
    "seg_student": {
        **{"recipe": "kd_plus_plus", "weight.logit": "1", "fold": "1", "network": "BasicUNet"},
        **{"network.features": str(TINY_STUDENT["features"]), "teacher": "HybridUNet", "max_epochs": "1"},
    },
    "cls_student": {"recipe": "kd", "fold": "1", "teacher": "LateFusionClassifier", "max_epochs": "1"},
}


def tracked(folder: Path) -> tuple[dict[str, str], set[str]]:
    """Parameters, and names of the metrics, of all runs in a folder."""
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "monai_experiment"]
    runs = client.search_runs(experiment.experiment_id)
    parameters = {name: value for each in runs for name, value in each.data.params.items()}
    return parameters, {name for each in runs for name in each.data.metrics}


@pytest.mark.parametrize("bundle", EXPECTED)
def test_recipe_widths_fold_and_teacher_are_parameters(bundle: str, tmp_path: Path) -> None:
    data = write_disc_slices(tmp_path / "data", 18, class_of=lambda patient: patient // 3)
    teacher = untrained(bundle.replace("student", "teacher"), tmp_path / "teacher", taps=TAPS_OF_TEACHER)
    values: dict[str, Any] = {name: value for name, value in OVERRIDES[bundle].items() if name != "logging_file"}
    places = {"dataset_dir": data, "output_dir": tmp_path / "out", "teacher_checkpoint": teacher}
    values |= {name: literal(str(path)) for name, path in places.items()}
    workflow = Workflow(
        config(bundle, "train"),
        workflow_type="train",
        logging_file=False,
        tracking="mlflow",
        fold=1,
        **{**values, "epochs": 1},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    parameters, metrics = tracked(tmp_path / "out")
    assert EXPECTED[bundle].items() <= parameters.items()
    assert any("loss" in name for name in metrics)


def test_line_of_the_page(lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = lines
    (tmp_path / "bundles").symlink_to(BUNDLES)
    write_disc_slices(tmp_path / "DATA", 6)
    untrained("seg_teacher", tmp_path / "runs" / "teacher", taps=TAPS_OF_TEACHER)
    small = {name: value for name, value in TINY_STUDENT.items() if name != "teacher_overrides"}
    run(line, tmp_path, monkeypatch, **{**small, "epochs": 1})
    parameters, metrics = tracked(tmp_path / "runs" / "student")
    assert parameters["recipe"] == "kd_plus_plus"
    assert any("loss" in name for name in metrics)
