"""A classifier that judges presence together with a segmentation, in evaluate.json and wherever weights are copied."""

from __future__ import annotations

import json
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from students import SIZE, UNET, brightness_unet, classification_student, classifier_without_tumours, saved
from test_evaluate import evaluate
from test_evaluated_presence import blocks
from tiny import cause, untrained

from monai_kd.__main__ import main
from monai_kd.data import load_fold
from monai_kd.export.archive import pack_bundle
from monai_kd.io.checksum import file_sha256
from monai_kd.io.trained import read_trained
from monai_kd.label import make_app
from monai_kd.metrics import joined_presence

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = ROOT / "bundles"
CONTEXT = ROOT / "docs" / "experiments" / "presence_context.py"
READER = "classifier.safetensors"


@pytest.fixture
def data(tmp_path):
    return blocks(tmp_path / "data")


@pytest.fixture
def weights(tmp_path):
    network = brightness_unet(UNET)
    with torch.no_grad():
        network.final_conv.weight[0, 0] = 2
    values = {"network_def": UNET, "image_size": SIZE, "mask_names": ["tumour"]}
    saved(network, tmp_path / "student", values)
    settings = tmp_path / "student" / "settings.json"
    content = {**json.loads(settings.read_text()), "weights_sha256": file_sha256(tmp_path / "student" / "model.pt")}
    settings.write_text(json.dumps(content))
    return tmp_path / "student" / "model.pt"


def options(data, weights, classifier=None, **more):
    given = {} if classifier is None else {"classifier": str(classifier)}
    return {"dataset_dir": str(data), "checkpoint": str(weights), "fold": 0, **given, **more}


def test_weights_without_their_classifier_are_one_clear_error(tmp_path, data, weights, capsys):
    evaluate(tmp_path / "both", specificity=0.5, **options(data, weights, classifier_without_tumours(tmp_path / "c")))
    weights.with_name(READER).unlink()
    classifier = untrained("cls_student", tmp_path / "other")
    given = ["--segmentation", str(weights), "--classification", str(classifier), "--device", "cpu"]
    assert main(["report", str(data), "--output_dir", str(tmp_path / "report"), *given]) == 2
    said = capsys.readouterr().err.splitlines()
    (error,) = [line for line in said if line.startswith("error: ")]
    assert error.startswith("error: --segmentation: ")
    assert READER in error
    assert not [line for line in said if line.startswith("Traceback")]
    assert main(["label_app", str(tmp_path / "app"), "--segmentation", str(weights)]) == 2
    assert "error: --segmentation: " in capsys.readouterr().err


def test_an_evaluation_leaves_the_folder_of_its_weights_alone(tmp_path, data, weights):
    (weights.parent / "overlays.png").write_bytes(b"of the training")
    with pytest.raises(RuntimeError) as caught:
        evaluate(weights.parent, **options(data, weights))
    assert "is the folder of the checkpoint model.pt" in cause(caught.value)
    assert (weights.parent / "overlays.png").read_bytes() == b"of the training"


def test_scores_of_both_are_measured_and_the_classifier_is_kept(tmp_path, data, weights, caplog):
    classifier = classifier_without_tumours(tmp_path / "other")
    _, plain = evaluate(tmp_path / "plain", **options(data, weights))
    metrics, rows = evaluate(tmp_path / "both", specificity=0.5, **options(data, weights, classifier))
    assert metrics["settings"]["classifier"] == str(classifier)
    asked = np.array([float(row["p_tumour"]) for row in rows])
    np.testing.assert_allclose(asked, 3 / (3 + np.exp(4)), rtol=1e-5)
    for name in ("presence_max", "presence_top_k_mean"):
        alone, both = (np.array([float(row[name]) for row in each]) for each in (plain, rows))
        np.testing.assert_allclose(both, joined_presence(alone, asked), rtol=1e-5)
    point = read_trained(weights)["operating_point"]
    assert point == metrics["presence"]["operating_point"]
    assert point["classifier"] == file_sha256(weights.with_name(READER))
    # So does the program that judges slices in context.
    scored = runpy.run_path(str(CONTEXT))["Scored"](str(weights))
    entries = load_fold(data, 0, "validation")
    seen = [scored.prepare({name: entry[name] for name in ("image", "label")})["image"] for entry in entries]
    scores = [scored.score(torch.as_tensor(each)) for each in seen]
    assert scores == pytest.approx([float(row[f"presence_{point['score']}"]) for row in rows], rel=1e-4)
    # From now on it is asked without being named.
    again, same = evaluate(tmp_path / "again", **options(data, weights))
    assert [row["p_tumour"] for row in same] == pytest.approx([row["p_tumour"] for row in rows])
    found = again["presence"]["at_operating_point"]
    assert found["specificity"]["by_slice"]["value"] >= point["specificity"] >= 0.5
    with caplog.at_level("WARNING"):
        other = classification_student(tmp_path / "another", class_names=["meningioma", "glioma", "no tumour"])
        elsewhere, _ = evaluate(tmp_path / "another_eval", **options(data, weights, other))
    assert "chosen with another classifier: what it gives is NOT measured" in caplog.text
    assert "at_operating_point" not in elsewhere["presence"]


def test_an_operating_point_of_its_own_needs_no_classifier(tmp_path, data, weights):
    evaluate(
        tmp_path / "both", specificity=0.5, **options(data, weights, classifier_without_tumours(tmp_path / "other"))
    )
    weights.with_name(READER).unlink()
    with pytest.raises(RuntimeError) as raised:
        evaluate(tmp_path / "without", **options(data, weights))
    assert "restore it, or choose an operating point again" in str(cause(raised.value))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (classification_student, "no class 'no tumour'"),
        (
            lambda folder: saved(
                brightness_unet(UNET), folder, {"network_def": UNET, "image_size": SIZE, "mask_names": ["tumour"]}
            ),
            "is of a segmentation: give one of cls_student",
        ),
        (lambda folder: folder / "model.pt", "no checkpoint"),
    ],
)
def test_what_is_no_such_classifier(made, said, tmp_path, data, weights):
    with pytest.raises(RuntimeError) as raised:
        evaluate(tmp_path / "eval", **options(data, weights, made(tmp_path / "other")))
    assert said in str(cause(raised.value))
    assert not weights.with_name(READER).exists()


def test_archives_and_label_apps_take_it_along(tmp_path, data, weights):
    evaluate(
        tmp_path / "both", specificity=0.5, **options(data, weights, classifier_without_tumours(tmp_path / "other"))
    )
    content = weights.with_name(READER).read_bytes()
    make_app(tmp_path / "app", {"segmentation": weights})
    assert (tmp_path / "app" / "model" / "seg_student" / "models" / READER).read_bytes() == content
    archive = pack_bundle(BUNDLES / "seg_student", weights, tmp_path / "archives")
    with zipfile.ZipFile(archive) as file:
        (name,) = [each for each in file.namelist() if each.endswith(READER)]
        assert file.read(name) == content
        card = file.read("seg_student/docs/README.md").decode()
    assert "| presence | judged together with a classifier" in card
