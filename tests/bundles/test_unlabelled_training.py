"""Students that learn from images that their teacher alone can label."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow
from tiny import (
    BUNDLES,
    CLASSIFICATION,
    OVERRIDES,
    TAPS_OF_TEACHER,
    cause,
    config,
    prepare,
    rows,
    settings_of,
    train,
    untrained,
)

from monai_kd.bundle import familiarity
from monai_kd.data import load_fold
from monai_kd.handlers import LabelledAccuracy, from_labelled

SHARE = 0.5
STUDENTS = ["seg_student", "cls_student"]


def taught(bundle: str, folder: Path) -> dict[str, str]:
    folder.mkdir()
    taps = {"taps": TAPS_OF_TEACHER} if bundle == "seg_student" else {}
    return {"teacher_checkpoint": str(untrained(bundle.replace("student", "teacher"), folder, **taps))}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "model.pt", weights_only=True)


def hidden(dataset: Path) -> set[str]:
    entries = load_fold(dataset, 0, "training", labelled_share=SHARE, unlabelled=True)
    return {Path(entry["image"]).name for entry in entries if not entry["labelled"]}


def without_labels(dataset: Path, folder: Path) -> Path:
    """A copy that has no class and no mask of the images whose labels are hidden in the other."""
    shutil.copytree(dataset, folder)
    content = json.loads((folder / "datalist.json").read_text())
    names = hidden(dataset)
    for entry in content["training"]:
        if Path(entry["image"]).name in names:
            (folder / entry.pop("label")).unlink()
            del entry["class"]
            entry["labelled"] = False
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("bundle", STUDENTS)
def test_hidden_labels_are_as_good_as_none(bundle, class_dataset, tmp_path):
    """The same weights where the labels are hidden and where they do not exist: nothing reads them."""
    values = {"epochs": 2, "cache_dir": None, **taught(bundle, tmp_path / "teacher")}
    train(bundle, class_dataset, tmp_path / "hidden", labelled_share=SHARE, **values)
    train(bundle, without_labels(class_dataset, tmp_path / "data"), tmp_path / "none", **values)
    train(bundle, class_dataset, tmp_path / "all", **values)
    first, second, other = (weights(tmp_path / name) for name in ("hidden", "none", "all"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert rows(tmp_path / "hidden")[-1]["loss"] == rows(tmp_path / "none")[-1]["loss"]
    assert settings_of(tmp_path / "hidden")["labelled_share"] == SHARE


@pytest.mark.parametrize("bundle", STUDENTS)
def test_students_without_a_teacher_leave_them_out(bundle, class_dataset, tmp_path, caplog):
    workflow = prepare(bundle, class_dataset, tmp_path, labelled_share=SHARE, recipe="none")
    workflow.initialize()
    data = workflow.parser.get_parsed_content("train#dataset").data
    assert not {Path(item["image"]).name for item in data} & hidden(class_dataset)
    assert f"{len(hidden(class_dataset))} of the 12 training images" in caplog.text
    workflow.finalize()


@pytest.mark.parametrize(
    ("weights", "kept"),
    [({"ce": 1, "focal": 0.5}, False), ({"ce": 1, "logit": 0}, False), ({"ce": 1, "logit": 1}, True)],
)
def test_a_second_term_of_labels_learns_nothing_without_one(class_dataset, tmp_path, weights, kept):
    focal = {"_target_": "monai.losses.FocalLoss", "_mode_": "callable", "to_onehot_y": True}
    (tmp_path / "focal.json").write_text(json.dumps({"terms#focal": focal}))
    files = [*config("cls_student", "train"), str(tmp_path / "focal.json")]
    given = {**OVERRIDES["cls_student"], "dataset_dir": str(class_dataset), "output_dir": str(tmp_path / "run")}
    given |= {"labelled_share": SHARE, "weights": weights}
    workflow = create_workflow(config_file=files, workflow_type="train", **given)
    data = workflow.parser.get_parsed_content("train#dataset").data
    assert bool({Path(item["image"]).name for item in data} & hidden(class_dataset)) == kept
    workflow.finalize()


@pytest.mark.parametrize("bundle", STUDENTS)
def test_a_teacher_that_is_trained_first_has_the_same_labels(bundle, class_dataset, tmp_path):
    train(bundle, class_dataset, tmp_path, epochs=1, labelled_share=SHARE)
    (teacher,) = tmp_path.glob("teacher-*")
    assert settings_of(teacher)["labelled_share"] == SHARE
    name = {"seg_student": "supervised", "cls_student": "ce"}[bundle]
    assert float(rows(tmp_path)[0][f"loss/{name}"]) > 0


@pytest.mark.parametrize(("bundle", "term"), [("seg_student", "supervised"), ("cls_student", "ce")])
def test_images_without_labels_alone(bundle, term, class_dataset, tmp_path):
    """The terms that need a label are 0 in the log, and the student learns."""
    data = tmp_path / "data"
    shutil.copytree(class_dataset, data)
    content = json.loads((data / "datalist.json").read_text())
    for entry in content["training"]:
        if entry["fold"] != 0:
            del entry["label"], entry["class"]
            entry["labelled"] = False
    (data / "datalist.json").write_text(json.dumps(content))
    train(bundle, data, tmp_path / "run", epochs=3, **taught(bundle, tmp_path / "teacher"))
    log = rows(tmp_path / "run")
    assert [float(row[f"loss/{term}"]) for row in log] == [0, 0, 0]
    assert float(log[-1]["loss/logit"]) < float(log[0]["loss/logit"])


def test_terms_in_the_log_are_means_over_the_batches_that_have_them(class_dataset, tmp_path):
    """With batches of one slice, half of which have no label, as large as with batches of all."""
    values = {"labelled_share": SHARE, "learning_rate": 1e-12, "epochs": 1, "flip_probability": 0}
    values |= {"network_name": "test_efficientnet_ln", **taught("cls_student", tmp_path / "teacher")}
    for size in (1, 12):
        train("cls_student", class_dataset, tmp_path / str(size), batch_size=size, **values)
    one, whole = (rows(tmp_path / str(size))[0] for size in (1, 12))
    assert float(one["loss/ce"]) == pytest.approx(float(whole["loss/ce"]), rel=1e-4)
    assert float(one["weighted/ce"]) == pytest.approx(SHARE * float(whole["weighted/ce"]), rel=1e-4)
    total = float(one["weighted/ce"]) + float(one["weighted/logit"])
    assert float(one["loss"]) == pytest.approx(total, rel=1e-5)


def test_slices_of_a_volume_without_a_label(disc_dataset, tmp_path):
    """One file of three slices is three images."""
    data = tmp_path / "data"
    shutil.copytree(disc_dataset, data)
    slices = [nib.load(path) for path in sorted((data / "images").iterdir())[:3]]
    volume = np.concatenate([np.asarray(each.dataobj) for each in slices], axis=2)
    nib.save(nib.Nifti1Image(volume, slices[0].affine), data / "volume.nii.gz")
    content = json.loads((data / "datalist.json").read_text())
    content["training"].append({"image": "volume.nii.gz", "labelled": False})
    (data / "datalist.json").write_text(json.dumps(content))
    workflow = prepare("seg_student", data, tmp_path / "run", **taught("seg_student", tmp_path / "teacher"))
    workflow.initialize()
    items = list(workflow.parser.get_parsed_content("train#dataset"))
    more = [item for item in items if not item["labelled"]]
    assert (len(items), len(more)) == (11, 3)
    assert not any(item["label"].any() for item in more)
    assert all(item["label"].any() for item in items if item["labelled"])
    workflow.finalize()


def test_a_run_is_not_resumed_with_other_labels(disc_dataset, tmp_path):
    values = {"recipe": "none", "epochs": 1}
    train("seg_student", disc_dataset, tmp_path, labelled_share=SHARE, **values)
    with pytest.raises(Exception, match="ConfigExpression") as raised:
        train("seg_student", disc_dataset, tmp_path, resume=True, **{**values, "epochs": 2})
    assert "labelled_share" in str(cause(raised.value))


def test_runs_from_before_there_were_shares_are_resumed(disc_dataset, tmp_path):
    """With all labels, which they had, whether they have a teacher or not; and not with fewer."""
    values = {"epochs": 1, **taught("seg_student", tmp_path / "teacher")}
    train("seg_student", disc_dataset, tmp_path / "run", **values)
    file = tmp_path / "run" / "settings.json"
    settings = json.loads(file.read_text())
    del settings["labelled_share"], settings["teacher"]["labelled_share"]
    file.write_text(json.dumps(settings))
    longer = {**values, "epochs": 2, "resume": True}
    with pytest.raises(Exception, match="ConfigExpression") as raised:
        train("seg_student", disc_dataset, tmp_path / "run", labelled_share=SHARE, **longer)
    assert "labelled_share was 1 and is 0.5" in str(cause(raised.value))
    train("seg_student", disc_dataset, tmp_path / "run", **longer)
    assert len(rows(tmp_path / "run")) == 2


def test_features_of_the_images_that_a_student_learnt_from(class_dataset, tmp_path, monkeypatch):
    """Those of a student with a teacher are of all images, those of another one of its labelled ones."""
    asked = []

    def load_fold(*_args, **labels):
        asked.append(labels)
        raise ValueError("this is all that is asked here")

    monkeypatch.setattr(familiarity, "load_fold", load_fold)
    for teacher, unlabelled in ((None, False), ({"checkpoint": "x"}, True)):
        folder = tmp_path / str(unlabelled)
        folder.mkdir()
        checkpoint = untrained("seg_student", folder, labelled_share=SHARE, teacher=teacher, fold=0)
        with pytest.raises(ValueError, match="this is all that is asked here"):
            familiarity.fit_familiarity(BUNDLES / "seg_student", checkpoint, class_dataset, "cpu")
    assert asked == [{"labelled_share": SHARE, "unlabelled": each} for each in (False, True)]


def test_the_accuracy_of_the_training_is_that_of_labels():
    items = [{"pred": n, "label": -n, "labelled": torch.tensor(n % 2 == 0)} for n in range(4)]
    assert from_labelled(["pred", "label"])(items) == ([0, 2], [0, -2])
    assert from_labelled("pred")([{"pred": 7}]) == [7]
    assert from_labelled(["pred", "label"])(items[1:2]) == ([], [])
    assert from_labelled("pred")(items[1:2]) == []
    accuracy = LabelledAccuracy()
    accuracy.reset()
    assert math.isnan(accuracy.compute())


def test_a_teacher_with_more_labels_is_named(disc_dataset, tmp_path, caplog):
    values = {"labelled_share": SHARE, **taught("seg_student", tmp_path / "teacher")}
    workflow = prepare("seg_student", disc_dataset, tmp_path / "run", **values)
    workflow.initialize()
    workflow.parser.get_parsed_content("distiller")
    assert "labelled_share is 0.5, and teacher_checkpoint" in caplog.text
    workflow.finalize()


def test_labels_can_not_be_blended_where_there_are_none(class_dataset, tmp_path):
    """Before a teacher is trained, where the share says so."""
    with pytest.raises(Exception, match="ConfigExpression") as raised:
        train("cls_student", class_dataset, tmp_path / "run", labelled_share=SHARE, mixup=0.2)
    assert "mixup blends labels, and labelled_share hides some" in str(cause(raised.value))
    assert not list((tmp_path / "run").glob("teacher*"))
    data = without_labels(class_dataset, tmp_path / "data")
    with pytest.raises(Exception, match="ConfigExpression") as raised:
        train("cls_student", data, tmp_path / "run", mixup=0.2, **taught("cls_student", tmp_path / "teacher"))
    assert "mixup blends labels, and some images have none" in str(cause(raised.value))


@pytest.mark.parametrize("bundle", CLASSIFICATION)
def test_a_share_that_is_none(bundle, class_dataset, tmp_path):
    with pytest.raises(Exception, match="ConfigExpression") as raised:
        train(bundle, class_dataset, tmp_path, labelled_share=2)
    assert "labelled_share must be above 0 and up to 1, got 2" in str(cause(raised.value))
