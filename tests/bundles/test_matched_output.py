"""Teachers of more masks or classes than the student, of another order or activation, matched by their names."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import UNet
from tiny import NAMES, OVERRIDES, cause, config, described, rows, save, settings_of, train, untrained

from monai_kd.bundle import Workflow
from monai_kd.bundle.teacher_output import matched_output
from monai_kd.config import build_network, literal
from monai_kd.distillation import AdaptOutput

CLASSES = [*NAMES, "metastasis"]


def masks(names: list[str], activation: str) -> dict[str, Any]:
    return {"mask_names": names, "activation": activation}


def match(student: dict[str, Any], teacher: dict[str, Any]) -> AdaptOutput | None:
    return matched_output(student, teacher, "teacher_checkpoint t.pt")


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (masks(["a", "b"], "sigmoid"), masks(["a", "b"], "sigmoid")),
        (masks(["a"], "softmax"), masks(["b"], "softmax")),
        (masks(["a"], "sigmoid"), {}),  # not described
        ({"class_names": NAMES}, {"class_names": NAMES}),
        ({"class_names": NAMES}, {"class_names": []}),
        ({"class_names": NAMES}, {"class_names": NAMES, **masks(["tumour"], "sigmoid")}),  # as settings are completed
    ],
)
def test_nothing_to_do(student, teacher):
    assert match(student, teacher) is None


@pytest.mark.parametrize(
    ("student", "teacher", "channels"),
    [
        (masks(["b"], "sigmoid"), masks(["a", "b", "c"], "sigmoid"), [[1]]),
        (masks(["c", "a"], "sigmoid"), masks(["a", "b", "c"], "sigmoid"), [[2], [0]]),
        (masks(["b"], "sigmoid"), masks(["a", "b", "c"], "softmax"), [[2]]),
        (masks(["b", "a"], "softmax"), masks(["a", "b"], "softmax"), [[2], [1]]),
        (masks(["x"], "sigmoid"), masks(["y"], "softmax"), [[1]]),
        (masks(["x"], "softmax"), masks(["y"], "sigmoid"), [[0]]),
        (masks(["b"], "softmax"), masks(["a", "b"], "sigmoid"), [[1]]),
        (masks(["t"], "sigmoid"), masks(["t", "a", "t"], "softmax"), [[1, 3]]),
        ({"class_names": ["c", "a"]}, {"class_names": ["a", "b", "c"]}, [[2], [0]]),
        ({"class_names": ["t", "n"]}, {"class_names": ["t", "t", "n"]}, [[0, 1], [2]]),
    ],
)
def test_by_the_names(student, teacher, channels, caplog):
    with caplog.at_level(logging.INFO):
        found = match(student, teacher)
    assert found.channels == channels
    assert found.background == ("mask_names" in student)
    wanted = [each.get("activation", "softmax") for each in (teacher, student)]
    assert [found.source, found.target] == wanted
    assert "it teaches" in caplog.text


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (
            masks(["a", "d"], "sigmoid"),
            masks(["a", "b"], "softmax"),
            r"segments a, d \(sigmoid\), and teacher_checkpoint t.pt a, b \(softmax\): it has no 'd'.*#mask_names",
        ),
        (masks(["a", "b"], "softmax"), masks(["a", "b"], "sigmoid"), r"a, b \(sigmoid\): masks by sigmoid may overlap"),
        (masks(["t"], "sigmoid"), masks(["t", "t"], "sigmoid"), "masks by sigmoid may overlap"),
        (
            {"class_names": ["a", "z"]},
            {"class_names": ["a", "b"]},
            "for the classes a, b, .* it has no 'z'.*#class_names",
        ),
    ],
)
def test_what_does_not_follow_is_refused(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        match(student, teacher)


@pytest.mark.parametrize(
    ("student", "teacher", "planned", "said", "unsaid"),
    [
        (masks(["a", "b"], "softmax"), masks(["t"], "sigmoid"), False, "--multiclass False", "no tumour"),
        (masks(["t"], "sigmoid"), masks(["a", "b"], "softmax"), True, "the same multiclass", "teacher_settings"),
        ({"class_names": ["a", "c"]}, {"class_names": ["a", "no tumour"]}, False, "#class_names in a file", "adds the"),
    ],
)
def test_the_remedy_is_one_that_there_is(student, teacher, planned, said, unsaid):
    with pytest.raises(ValueError, match="it has no") as caught:
        matched_output(student, teacher, "the teacher", planned)
    assert said in str(caught.value)
    assert unsaid not in str(caught.value)


def workflow_of(tmp_path: Path, bundle: str, dataset: Path, checkpoint: Path, described: dict, **more: Any) -> Workflow:
    (tmp_path / "teacher.json").write_text(json.dumps({"teacher_settings": described}))
    places = {"dataset_dir": dataset, "output_dir": tmp_path / "out", "teacher_checkpoint": checkpoint}
    values = {**OVERRIDES[bundle], "recipe": "kd", "epochs": 1, **more}
    values |= {name: literal(str(path)) for name, path in places.items()}
    return Workflow([*config(bundle, "train"), str(tmp_path / "teacher.json")], workflow_type="train", **values)


@pytest.mark.parametrize(
    ("names", "activation", "expected"),
    [
        (["liver", "tumour", "vessel"], "sigmoid", lambda z: z[:, [1]].sigmoid()),
        (["liver", "tumour", "vessel"], "softmax", lambda z: z.softmax(1)[:, [2]]),
        (["tumour", "liver", "tumour"], "softmax", lambda z: z.softmax(1)[:, [1, 3]].sum(1, keepdim=True)),
    ],
    ids=["overlapping", "exclusive", "of parts"],
)
def test_a_student_of_one_mask_learns_from_a_teacher_of_several(names, activation, expected, disc_dataset, tmp_path):
    """As where a network of many organs teaches one that finds a single one."""
    out = len(names) + (activation == "softmax")
    network = {"spatial_dims": 2, "in_channels": 1, "out_channels": out, "channels": [4, 8], "strides": [2]}
    torch.manual_seed(0)
    torch.save(UNet(**network).state_dict(), tmp_path / "many.pt")
    described = {
        **{"network_def": {"_target_": "UNet", **network}, "image_size": 32, "in_channels": 1},
        **{"mean": [0.0], "std": [1.0], **masks(names, activation)},
    }
    workflow = workflow_of(tmp_path, "seg_student", disc_dataset, tmp_path / "many.pt", described, in_channels=3)
    workflow.initialize()
    distiller = workflow.value("distiller")
    image = torch.randn(2, 3, 32, 32)
    teacher = distiller.teachers["teacher"]
    with torch.no_grad():
        seen = distiller._teacher_input[""](image)
        found, live = distiller.teach(image)["teacher"].sigmoid(), expected(teacher(seen).float())
    torch.testing.assert_close(found, live, atol=1e-5, rtol=1e-5)
    workflow.run()
    workflow.finalize()
    assert float(rows(tmp_path / "out")[0]["loss/logit"]) > 0
    # What its outputs were taken for, by which a run that is resumed is known.
    kept = settings_of(tmp_path / "out")["teacher"]
    assert (kept["mask_names"], kept["activation"]) == (names, activation)
    described["mask_names"] = names[::-1] if names[::-1] != names else [*names[1:], names[0]]
    with pytest.raises(RuntimeError) as caught:
        workflow_of(tmp_path, "seg_student", disc_dataset, tmp_path / "many.pt", described, epochs=2, resume=True).run()
    assert "teacher mask_names was" in cause(caught.value)


def test_a_classifier_of_more_classes_teaches_some(class_dataset, tmp_path):
    bundle = "cls_teacher"
    values = described(bundle, class_names=[CLASSES[place] for place in (3, 2, 0, 1)])
    values["network_def"] = {**values["network_def"], "num_classes": 4}
    checkpoint = save(tmp_path / "teacher", build_network(values["network_def"]).state_dict(), **values)
    train("cls_student", class_dataset, tmp_path / "out", recipe="kd", epochs=1, teacher_checkpoint=str(checkpoint))
    assert float(rows(tmp_path / "out")[0]["loss/logit"]) > 0


def test_one_that_lacks_a_class_is_refused_before_it_is_loaded(class_dataset, tmp_path):
    checkpoint = untrained("cls_teacher", tmp_path, class_names=["meningioma", "glioma", "metastasis"])
    with pytest.raises(RuntimeError) as caught:
        train("cls_student", class_dataset, tmp_path / "out", recipe="kd", teacher_checkpoint=str(checkpoint))
    said = cause(caught.value)
    assert f"classes meningioma, glioma, metastasis, and the student learns {', '.join(NAMES)}" in said
    assert "it has no 'pituitary'" in said
