"""The class "no tumour", learnt from slices whose tumour is taken out: trained, distilled, evaluated, used."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from heads_folder import write_heads
from scipy.integrate import trapezoid
from tiny import CLASSIFICATION, NAMES, cause, infer, prepare, rows, settings_of, train, untrained

FOUR = [*NAMES, "no tumour"]


@pytest.fixture(scope="module")
def teacher(class_dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    train("cls_teacher", class_dataset, folder, epochs=1, negative_probability=0.5, class_weights="balanced")
    return folder / "model.pt"


@pytest.fixture(scope="module")
def student(class_dataset, teacher, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("student")
    values = {"epochs": 1, "negative_probability": 0.5, "recipe": "kd", "teacher_checkpoint": str(teacher)}
    train("cls_student", class_dataset, folder, **values)
    return folder / "model.pt"


def test_both_networks_learn_the_class(teacher, student):
    for checkpoint in (teacher, student):
        settings = settings_of(checkpoint.parent)
        assert (settings["class_names"], settings["negative_probability"]) == (FOUR, 0.5)
    assert {"loss/ce", "loss/logit"} <= rows(student.parent)[0].keys()


def test_slices_of_both_kinds_come_up(class_dataset, tmp_path):
    workflow = prepare("cls_student", class_dataset, tmp_path, recipe="none", negative_probability=0.5)
    workflow.initialize()
    listed = [entry["class"] for entry in workflow.parser.get_parsed_content("train#dataset").data]
    trained = workflow.parser.get_parsed_content("train#dataset")
    drawn = [[int(trained[n]["class"]) for n in range(len(listed))] for _ in range(3)]
    assert {number for each in drawn for number in each} == {0, 1, 2, 3}
    assert all(new in (old, 3) for each in drawn for new, old in zip(each, listed, strict=True))
    assert drawn[0] != drawn[1]
    assert "label" not in trained[0]
    validated = workflow.parser.get_parsed_content("validate#dataset")
    first, second = ([int(item["class"]) for item in validated] for _ in range(2))
    assert first == second
    assert 3 in first
    workflow.finalize()


def test_slices_of_another_folder_are_of_the_class(class_dataset, tmp_path):
    folder = write_heads(tmp_path / "heads")
    run = tmp_path / "run"
    train("cls_student", class_dataset, run, epochs=1, recipe="none", negatives_dir=str(folder))
    assert settings_of(run)["class_names"] == FOUR
    workflow = prepare("cls_teacher", class_dataset, tmp_path / "other", negatives_dir=str(folder))
    workflow.initialize()
    dataset = workflow.parser.get_parsed_content("train#dataset")
    heads = [number for number, entry in enumerate(dataset.data) if not entry["tumour"]]
    assert len(heads) > 5
    assert {int(dataset[number]["class"]) for number in heads} == {3}
    workflow.finalize()


def test_a_teacher_that_knows_the_class_teaches_the_others(class_dataset, teacher, tmp_path, caplog):
    with caplog.at_level("INFO"):
        train("cls_student", class_dataset, tmp_path, recipe="kd", epochs=1, teacher_checkpoint=str(teacher))
    assert f"of its classes, {', '.join(FOUR)}, it teaches {', '.join(NAMES)}." in caplog.text
    assert float(rows(tmp_path)[0]["loss/logit"]) > 0


def test_a_teacher_without_the_class_is_refused(class_dataset, tmp_path):
    checkpoint = untrained("cls_teacher", tmp_path / "teacher", class_names=NAMES)
    values = {"recipe": "kd", "negative_probability": 0.5, "teacher_checkpoint": str(checkpoint)}
    with pytest.raises(RuntimeError) as caught:
        train("cls_student", class_dataset, tmp_path / "out", **values)
    said = cause(caught.value)
    learnt = f"the student learns {', '.join(FOUR)}"
    assert f"for the classes {', '.join(NAMES)}, and {learnt}: it has no 'no tumour'" in said
    assert "A negative_probability above 0 in its training adds the class no tumour." in said


def test_a_teacher_that_is_trained_first_learns_the_class_too(class_dataset, tmp_path):
    train("cls_student", class_dataset, tmp_path, epochs=1, negative_probability=0.5)
    (folder,) = tmp_path.glob("teacher-*")
    assert settings_of(folder)["class_names"] == FOUR


def test_evaluation_with_and_without_negatives(class_dataset, student, tmp_path, figures):
    values = {"dataset_dir": str(class_dataset), "checkpoint": str(student), "bootstrap": 20}
    infer("cls_student", "evaluate", **values, output_dir=str(tmp_path / "as_listed"))
    infer("cls_student", "evaluate", **values, output_dir=str(tmp_path / "half"), negative_share=0.5)
    listed, half = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("as_listed", "half"))
    assert "presence" not in listed
    assert list(listed["kinds"]["over_slices"]["classes"]) == NAMES
    assert listed["kinds"]["over_slices"]["count"] == listed["over_slices"]["count"]
    free = half["presence"]["tumour_free_slices"]
    assert 0 < free == half["over_slices"]["classes"]["no tumour"]["count"]
    assert half["presence"]["slices_with_tumour"] == half["kinds"]["over_slices"]["count"]
    with open(tmp_path / "half" / "slices.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert sum(row["class_name"] == "no tumour" for row in table) == free
    assert not (tmp_path / "as_listed" / "roc.png").exists()
    assert (tmp_path / "half" / "roc.png").is_file()
    (axes,) = (each for figure in figures for each in figure.axes if "that are marked" in each.get_xlabel())
    curve, point = axes.lines[:2]
    # A staircase without ties has the area of the curve.
    assert trapezoid(*curve.get_data()[::-1]) == pytest.approx(half["presence"]["auc"]["p_tumour"]["value"])
    shares = [half["presence"][name]["by_slice"]["value"] for name in ("specificity", "sensitivity")]
    assert [*point.get_xdata(), *point.get_ydata()] == pytest.approx([1 - shares[0], shares[1]])
    right = np.mean([row["class_name"] == row["predicted_name"] for row in table])
    assert half["over_slices"]["metrics"]["accuracy"]["value"] == pytest.approx(right)


def test_a_network_without_the_class_is_not_measured_on_negatives(class_dataset, tmp_path):
    train("cls_student", class_dataset, tmp_path / "run", epochs=1, recipe="none")
    values = {"dataset_dir": str(class_dataset), "checkpoint": str(tmp_path / "run" / "model.pt")}
    with pytest.raises(RuntimeError) as caught:
        infer("cls_student", "evaluate", **values, output_dir=str(tmp_path / "out"), negative_share=0.9)
    assert "leave negative_share at 0" in cause(caught.value)


@pytest.mark.parametrize("bundle", CLASSIFICATION)
def test_masks_are_needed_only_for_negatives(class_dataset, tmp_path, bundle):
    data = tmp_path / "data"
    shutil.copytree(class_dataset, data)
    content = json.loads((data / "datalist.json").read_text())
    for entry in content["training"]:
        del entry["label"]
    (data / "datalist.json").write_text(json.dumps(content))
    more = {"recipe": "none"} if bundle == "cls_student" else {}
    train(bundle, data, tmp_path / "run", epochs=1, **more)
    with pytest.raises(RuntimeError) as caught:
        train(bundle, data, tmp_path / "again", epochs=1, negative_probability=0.5, **more)
    assert "label" in cause(caught.value)


def test_inference_names_the_class(class_dataset, student, tmp_path):
    values = {"input": str(class_dataset), "checkpoint": str(student), "output_dir": str(tmp_path)}
    infer("cls_student", "inference", **values)
    with open(tmp_path / "classes.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["class"] for row in table if row["status"] == "ok"} <= set(FOUR)
    assert all(f"p_{name}" in table[0] for name in FOUR)
