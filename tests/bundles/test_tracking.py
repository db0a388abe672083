"""Experiment tracking with MLflow, by MONAI's option, in a database of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from disc_slices import write_disc_slices
from tiny import TAPS_OF_TEACHER, TINY_STUDENT, config, untrained

from monai_kd.bundle import Workflow
from monai_kd.config import literal

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: pip install mlflow")


def test_recipe_widths_fold_and_teacher_are_parameters(tmp_path: Path) -> None:
    data = write_disc_slices(tmp_path / "data", 6)
    teacher = untrained("seg_teacher", tmp_path / "teacher", taps=TAPS_OF_TEACHER)
    values = {name: value for name, value in TINY_STUDENT.items() if name != "logging_file"}
    places = {"dataset_dir": data, "output_dir": tmp_path / "out", "teacher_checkpoint": teacher}
    values |= {name: literal(str(path)) for name, path in places.items()}
    workflow = Workflow(
        config("seg_student", "train"),
        workflow_type="train",
        logging_file=False,
        tracking="mlflow",
        fold=1,
        **{**values, "epochs": 1},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'out' / 'mlruns.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "monai_experiment"]
    runs = client.search_runs(experiment.experiment_id)
    parameters = {name: value for run in runs for name, value in run.data.params.items()}
    expected = {
        **{"recipe": "kd_plus_plus", "weight.logit": "1", "fold": "1", "network": "BasicUNet"},
        **{"network.features": str(TINY_STUDENT["features"]), "teacher": "HybridUNet", "max_epochs": "1"},
    }
    assert expected.items() <= parameters.items()
    assert any("loss" in name for run in runs for name in run.data.metrics)
