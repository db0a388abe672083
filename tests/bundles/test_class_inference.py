"""evaluate.json and inference.json of the classification bundles, on the same slices."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CLASSIFICATION, NAMES, NETWORKS, cause, described, infer, save

from monai_kd.config import build_network

# A module of each tiny network, before the mean over positions.
LAYER = {"cls_student": "bn2", "cls_teacher": "backbones.0.layer2"}


@pytest.fixture(scope="module", params=CLASSIFICATION)
def trained(request, class_dataset, tmp_path_factory) -> tuple[str, Path]:
    """A bundle, and a checkpoint whose answers differ from slice to slice."""
    bundle = request.param
    torch.manual_seed(0)
    net = build_network(NETWORKS[bundle]).train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(8, 3, 32, 32))
        for parameter in list(net.parameters())[-2:]:
            parameter.mul_(5)
    told = described(bundle, dataset_dir=str(class_dataset), fold=1, leave_out=[])
    return bundle, save(tmp_path_factory.mktemp(bundle), net.state_dict(), **told)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def strict(path: Path) -> dict:
    return json.loads(path.read_text(), parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))


def evaluate(trained, dataset: Path, output_dir: Path, **overrides) -> tuple[dict, list[dict[str, str]]]:
    values = {"dataset_dir": str(dataset), "checkpoint": str(trained[1]), "output_dir": str(output_dir)}
    infer(trained[0], "evaluate", **{**values, "bootstrap": 20, **overrides})
    return strict(output_dir / "metrics.json"), table(output_dir / "slices.csv")


def classify(trained, source: Path, output_dir: Path, **overrides) -> list[dict[str, str]]:
    values = {"input": str(source), "checkpoint": str(trained[1]), "output_dir": str(output_dir)}
    infer(trained[0], "inference", **{**values, **overrides})
    return table(output_dir / "classes.csv")


def probabilities(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"p_{name}"]) for name in NAMES] for row in rows])


def test_evaluation_end_to_end(trained, class_dataset, tmp_path, caplog):
    caplog.set_level("INFO")
    metrics, slices = evaluate(trained, class_dataset, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("metrics.json", "slices.csv", "patients.csv"),
        *("confusion.csv", "confusion.png", "reliability.png"),
        *("confusion_patients.csv", "confusion_patients.png", "reliability_patients.png"),
    }
    # fold, size and network come from beside the checkpoint
    assert {row["fold"] for row in slices} == {"1"}
    assert metrics["settings"]["image_size"] == 32
    assert (len(slices), metrics["dataset"]["fold"]) == (6, 1)
    np.testing.assert_allclose(probabilities(slices).sum(axis=1), 1, rtol=1e-6)
    right = np.mean([row["class"] == row["predicted"] for row in slices])
    assert metrics["over_slices"]["metrics"]["accuracy"]["value"] == pytest.approx(right)
    assert metrics["synthetic"] is True
    assert "fold 1, the validation fold of the training" in caplog.text


def test_one_class_alone_leaves_no_nan(trained, disc_dataset, tmp_path, caplog):
    # in these slices each fold has one class
    metrics, slices = evaluate(trained, disc_dataset, tmp_path, fold=0)
    assert {row["class_name"] for row in slices} == {"meningioma"}
    assert "No slice of the validation part shows glioma, pituitary" in caplog.text
    for name, entry in metrics["over_slices"]["metrics"].items():
        assert (entry["value"] is None) == bool(entry["undefined"]), name
    assert metrics["over_slices"]["metrics"]["balanced_accuracy"]["value"] is None
    assert metrics["over_slices"]["metrics"]["accuracy"]["value"] is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"temperature": 0}, "temperature must be a positive number"),
        ({"calibrat": True}, "unknown override: --calibrat (did you mean --calibrate"),
        ({"dataloader": 8}, "--dataloader: 8 can't take the place of the DataLoader"),
        ({"fold": 7}, "has the folds [0, 1, 2]"),
    ],
)
def test_clear_errors_of_evaluation(trained, class_dataset, tmp_path, overrides, message):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        evaluate(trained, class_dataset, tmp_path, **overrides)
    assert message in cause(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [[*NAMES, "other"], ["glioma", "meningioma", "pituitary"]])
def test_a_checkpoint_of_other_classes_is_refused(trained, class_dataset, tmp_path, names):
    bundle, checkpoint = trained
    state = torch.load(checkpoint, weights_only=True)
    other = save(tmp_path / "other", state, **described(bundle, class_names=names))
    with pytest.raises((RuntimeError, ValueError)) as caught:
        evaluate((bundle, other), class_dataset, tmp_path / "eval", fold=1)
    assert f"trained for the classes {', '.join(names)}" in cause(caught.value)
    assert not (tmp_path / "eval").exists()


def test_a_data_list_with_other_classes_is_refused(trained, class_dataset, tmp_path):
    shutil.copytree(class_dataset, tmp_path / "data")
    content = json.loads((tmp_path / "data" / "datalist.json").read_text())
    content["labels"] = {"1": "meningioma", "2": "metastasis", "3": "pituitary"}
    (tmp_path / "data" / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError) as caught:
        evaluate(trained, tmp_path / "data", tmp_path / "eval")
    said = cause(caught.value)
    assert "was trained for the classes meningioma, glioma, pituitary" in said
    assert "has the classes meningioma, metastasis, pituitary" in said


def test_checkpoint_with_another_number_of_classes(trained, class_dataset, tmp_path):
    bundle, _ = trained
    state = build_network({**NETWORKS[bundle], "num_classes": 2}).state_dict()
    path = save(tmp_path, state, **described(bundle, fold=1))
    for call, source in ((evaluate, class_dataset), (classify, class_dataset / "images")):
        with pytest.raises(RuntimeError) as caught:
            call((bundle, path), source, tmp_path / "out")
        assert "does not fit" in cause(caught.value)
        assert not (tmp_path / "out" / "classes.csv").exists()


def test_inference_gives_the_classes_of_the_evaluation(trained, class_dataset, tmp_path):
    _, slices = evaluate(trained, class_dataset, tmp_path / "eval", part="all")
    # upright turns slices as a viewer shows them; training sees them as they are filed
    rows = classify(trained, class_dataset / "images", tmp_path / "out", upright=False)
    found = {f"images/{row['file']}": row for row in rows}
    assert len(found) == len(slices) == 18
    assert len({row["probability"] for row in rows}) > 6
    for row in slices:
        assert found[row["image"]]["class"] == row["predicted_name"]
    expected = probabilities(slices)
    np.testing.assert_allclose(probabilities([found[row["image"]] for row in slices]), expected, atol=1e-4)


def test_upright_inference_reads_the_slices_of_the_data_set_as_training_does(trained, class_dataset, tmp_path):
    plain = classify(trained, class_dataset / "images", tmp_path / "plain", upright=False)
    upright = classify(trained, class_dataset / "images", tmp_path / "upright")
    np.testing.assert_allclose(probabilities(plain), probabilities(upright), atol=1e-4)


@pytest.mark.usefixtures("drawn")
def test_kinds_of_files(trained, tmp_path):
    bundle, _ = trained
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 5)).astype(np.uint8)
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    Image.fromarray(pixels[..., 0].T).save(folder / "a.png")
    for name, array in (("b", pixels[..., 0]), ("c", pixels[..., :1]), ("d", pixels)):
        nib.save(nib.Nifti1Image(array.astype(np.int16), affine), folder / f"{name}.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"")
    (folder / "notes.txt").write_text("of a doctor")
    rows = classify(trained, folder, out, gradcam=True, gradcam_layer=LAYER[bundle])
    files = ["a.png", "b.nii.gz", "broken.nii.gz", "c.nii.gz", *["d.nii.gz"] * 5, "notes.txt"]
    assert [row["file"] for row in rows] == files
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "ok", *["ok"] * 5, "skipped"]
    good = [row for row in rows if row["status"] == "ok"]
    assert [row["slice"] for row in good] == ["0", "0", "0", "0", "1", "2", "3", "4"]
    found = probabilities(good)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=2e-4)
    assert [row["class"] for row in good] == [NAMES[number] for number in found.argmax(axis=1)]
    np.testing.assert_allclose([float(row["probability"]) for row in good], found.max(axis=1))
    # the same pixels in every kind of file, alone or the first of a volume
    for row in found[1:4]:
        np.testing.assert_allclose(row, found[0], atol=2e-4)
    assert np.abs(found[3:] - found[3]).max() > 1e-3
    content = strict(out / "classes.json")
    assert content["classes"] == NAMES
    by_file = {file["file"]: file for file in content["files"]}
    assert list(by_file) == sorted(set(files))
    assert len(by_file["d.nii.gz"]["slices"]) == 5
    assert by_file["broken.nii.gz"]["reason"] == "the file is empty"
    assert "slices" not in by_file["notes.txt"]
    first = by_file["a.png"]["slices"][0]
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=2e-4)
    assert max(first["probabilities"], key=first["probabilities"].get) == first["class"]
    for row in good:
        picture = Image.open(out / row["gradcam"]).convert("RGB")
        assert np.asarray(picture).std() > 5
    assert len(list(out.glob("*_gradcam.png"))) == 4


def test_temperature_softens_and_keeps_the_class(trained, class_dataset, tmp_path):
    plain = classify(trained, class_dataset / "images", tmp_path / "one")
    soft = classify(trained, class_dataset / "images", tmp_path / "two", temperature=3.0)
    assert [row["class"] for row in plain] == [row["class"] for row in soft]
    # softmax(z / 3) from softmax(z), which is rounded to four places
    expected = probabilities(plain).clip(1e-4) ** (1 / 3)
    np.testing.assert_allclose(probabilities(soft), expected / expected.sum(axis=1, keepdims=True), atol=0.01)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gradcam": True, "gradcam_layer": "nowhere"}, "has no module 'nowhere'"),
        ({"temperatur": 2}, "unknown override: --temperatur"),
        ({"temperature": -1}, "temperature must be a positive number"),
    ],
)
def test_clear_errors_of_inference(trained, class_dataset, tmp_path, overrides, message):
    with pytest.raises(RuntimeError) as caught:
        classify(trained, class_dataset / "images", tmp_path / "out", **overrides)
    assert message in cause(caught.value)


def test_an_empty_slice_of_a_volume_is_said(trained, tmp_path):
    volume = np.random.default_rng(0).uniform(0, 100, (32, 32, 3)).astype(np.float32)
    volume[..., 1] = 7
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(volume, np.diag([1.0, 1.0, 5.0, 1.0])), tmp_path / "in" / "v.nii.gz")
    rows = classify(trained, tmp_path / "in", tmp_path / "out")
    assert [row["reason"] for row in rows] == ["", "the slice is constant: its class says nothing", ""]
    (file,) = json.loads((tmp_path / "out" / "classes.json").read_text())["files"]
    assert (file["status"], file["reason"]) == ("ok", "")
    assert [entry["reason"] for entry in file["slices"]] == [row["reason"] for row in rows]
