"""A network that says so when it is shown other images than those that it was trained on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from disc_slices import write_disc_slices
from ignite.engine import Engine
from monai.data import MetaTensor
from tiny import BUNDLES, untrained
from unfamiliar import stripes, taught

from monai_kd.__main__ import main
from monai_kd.bundle import familiarity_of
from monai_kd.export.archive import pack_bundle
from monai_kd.handlers import RunSettings
from monai_kd.inference import BundlePredictor, JudgeInputd, finding_of, read_image
from monai_kd.inference.familiarity import Familiarity
from monai_kd.inference.measures import told_absence
from monai_kd.io.checksum import file_sha256
from monai_kd.io.trained import FAMILIARITY_FILE
from monai_kd.metrics.familiarity import FeatureReference

BUNDLE = BUNDLES / "seg_student"
FIGSHARE = Path(__file__).resolve().parents[3] / "shared" / "volumes" / "brain1.nii.gz"
RELEASED = BUNDLE / "models" / "model.pt"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc_slices(tmp_path_factory.mktemp("discs"), count=36)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    return taught("seg_student", tmp_path_factory.mktemp("run"), dataset)


def finding(checkpoint: Path, path: Path, **overrides) -> dict:
    predictor = BundlePredictor(BUNDLE, checkpoint, device="cpu", threshold=1e-6, **overrides)
    found = finding_of(predictor(*read_image(path)), ["tumour"])
    return {**found.found, "marked": bool(found.masks.any())}


def test_slices_like_those_of_the_training_are_judged(checkpoint, dataset):
    for path in sorted((dataset / "images").iterdir())[:3]:
        found = finding(checkpoint, path)
        assert found["feature_distance"] < 1.4
        assert found["tumour"] == "yes"
        assert "unlike" not in found.get("warning", "")


@pytest.mark.parametrize("slices", [1, 5])
def test_other_images_are_not(checkpoint, tmp_path, slices):
    path = stripes(tmp_path / "stripes.nii.gz", slices)
    found = finding(checkpoint, path)
    assert found["feature_distance"] >= 1.4
    assert (found["tumour"], found["marked"]) == ("not judged", False)
    assert f"unlike those of the training slices (distance {found['feature_distance']:.1f}" in found["warning"]
    judged = finding(checkpoint, path, judge_unfit=True)
    assert (judged["tumour"], judged["marked"], judged["warning"]) == ("yes", True, found["warning"])


def test_a_row_of_findings(checkpoint, dataset, tmp_path):
    from monai.bundle import create_workflow

    (tmp_path / "in").mkdir()
    stripes(tmp_path / "in" / "stripes.nii.gz")
    shutil.copy(dataset / "images" / "0000.nii.gz", tmp_path / "in" / "slice.nii.gz")
    values = {"input": str(tmp_path / "in"), "output_dir": str(tmp_path / "out"), "checkpoint": str(checkpoint)}
    file = str(BUNDLE / "configs" / "inference.json")
    create_workflow(config_file=file, workflow_type="inference", run_id="inferring", **values).run()
    with open(tmp_path / "out" / "findings.csv", newline="") as table:
        rows = {row["file"]: row for row in csv.DictReader(table)}
    assert rows["stripes.nii.gz"]["tumour"] == "not judged"
    assert float(rows["stripes.nii.gz"]["feature_distance"]) >= 1.4 > float(rows["slice.nii.gz"]["feature_distance"])


def test_distances_are_those_of_the_features(checkpoint, dataset):
    """By a second implementation: hooks on a whole pass, and NumPy's inverse."""
    predictor = BundlePredictor(BUNDLE, checkpoint, device="cpu")
    image = torch.as_tensor(predictor(*read_image(dataset / "images" / "0000.nii.gz"))["image"])[..., 0][None]
    familiarity = familiarity_of(checkpoint)
    modules, means = dict(predictor.network.named_modules()), []
    for name in familiarity.layers:
        modules[name].register_forward_hook(lambda _m, _i, output: means.append(output.mean((2, 3))))
    with torch.no_grad():
        predictor.network(image)
    away = torch.cat(means, 1)[0].numpy() - familiarity.reference.mean
    expected = np.sqrt(away @ np.linalg.solve(np.linalg.inv(familiarity.reference.precision), away))
    familiarity.network = predictor.network
    found = familiarity.distances(image)
    np.testing.assert_allclose(found, expected / familiarity.reference.usual, rtol=1e-4)


@pytest.mark.parametrize("overrides", [{}, {"mirror": [0]}, {"amp": True}, {"batch_size": 2}], ids=str)
def test_the_pass_of_the_segmentation_is_enough(checkpoint, dataset, tmp_path, monkeypatch, overrides):
    """The network runs no second time, and the distance is that of a pass of its own."""
    path = stripes(tmp_path / "stripes.nii.gz", 5)
    predictor = BundlePredictor(BUNDLE, checkpoint, device="cpu", **overrides)
    expected = []
    for file in (path, dataset / "images" / "0000.nii.gz"):
        image = torch.as_tensor(predictor(*read_image(file))["image"]).movedim(-1, 0)
        familiarity = familiarity_of(checkpoint)
        familiarity.network = predictor.network
        expected.append(np.median(familiarity.distances(image)))
    monkeypatch.setattr("monai_kd.inference.familiarity.pooled_features", lambda *_: pytest.fail("a second pass"))
    for file, distance in zip((path, dataset / "images" / "0000.nii.gz"), expected, strict=True):
        found = predictor(*read_image(file))["examination"]["feature_distance"]
        # bfloat16 shifts features; how far this is in units of their variance depends on the network.
        assert found == pytest.approx(distance, abs=0.01) or "amp" in overrides
    assert not predictor.network._forward_pre_hooks


def test_after_a_further_training_it_is_not_used(checkpoint, tmp_path, caplog):
    other = untrained("seg_student", tmp_path, epochs=2)
    state = torch.load(other, weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, other)
    shutil.copy(checkpoint.with_name(FAMILIARITY_FILE), tmp_path)
    assert familiarity_of(other) is None
    assert "is not used: it is of another checkpoint" in caplog.text


def test_an_archive_holds_it(checkpoint, tmp_path):
    import zipfile

    with zipfile.ZipFile(pack_bundle(BUNDLE, checkpoint, tmp_path)) as packed:
        packed.extractall(tmp_path)
    packed_checkpoint = tmp_path / "seg_student" / "models" / "model.pt"
    assert familiarity_of(packed_checkpoint).layers == familiarity_of(checkpoint).layers


@pytest.mark.parametrize("content", [b"", b"junk" * 100, (np.nan, 1.0), (0.0, np.inf), (0.0, 0.0)], ids=repr)
def test_a_damaged_file(content, tmp_path):
    if isinstance(content, tuple):
        mean, usual = content
        reference = FeatureReference(np.full(2, mean), np.eye(2), usual)
        Familiarity(("a", "b"), reference).save(tmp_path / FAMILIARITY_FILE, "")
    else:
        (tmp_path / FAMILIARITY_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="is none that python -m monai_kd familiarity wrote"):
        Familiarity.load(tmp_path / FAMILIARITY_FILE)


def test_just_below_and_at_the_limit(monkeypatch):
    """The mask, the answer and the warning go by one number, which is the one in the table."""
    for distance, judged in ((1.394, True), (1.396, False), (1.4, False)):
        familiarity = Familiarity(("a",), FeatureReference(np.zeros(1), np.eye(1), 1.0))
        monkeypatch.setattr(familiarity, "distances", lambda slices, d=distance: np.full(len(slices), d))
        mask = MetaTensor(torch.ones(1, 16, 16), meta={"spacing": np.ones(3)})
        data = {"pred": mask, "probability": torch.ones(1, 16, 16), "image": torch.rand(3, 16, 16)}
        found = finding_of(JudgeInputd("pred", familiarity=familiarity)(data), ["tumour"]).found
        assert (found["tumour"] == "yes") is judged
        assert ("unlike" in found["warning"]) is not judged
        assert told_absence(found) if not judged else True


def test_layers_of_another_network(checkpoint, tmp_path):
    other = untrained("seg_student", tmp_path)
    own, _ = Familiarity.load(checkpoint.with_name(FAMILIARITY_FILE))
    Familiarity(("nope",), own.reference).save(tmp_path / FAMILIARITY_FILE, file_sha256(other))
    with pytest.raises(ValueError, match="layers that the network does not have"):
        BundlePredictor(BUNDLE, other, device="cpu")
    Familiarity(own.layers[:1], own.reference).save(tmp_path / FAMILIARITY_FILE, file_sha256(other))
    with pytest.raises(ValueError, match="channels, and the layers of the network have"):
        BundlePredictor(BUNDLE, other, device="cpu")(*read_image(stripes(tmp_path / "a.nii.gz")))


def test_training_again_puts_it_aside_and_says_so(checkpoint, tmp_path, caplog):
    for name in ("model.pt", "settings.json", FAMILIARITY_FILE):
        shutil.copy(checkpoint.with_name(name), tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    point = {"operating_point": {"score": "max", "threshold": 0.5}}
    (tmp_path / "settings.json").write_text(json.dumps({**settings, **point}))
    engine = Engine(lambda engine, batch: None)
    RunSettings(tmp_path, {"epochs": 1}).attach(engine)
    engine.run([0])
    assert familiarity_of(tmp_path / "earlier-1" / "model.pt") is not None
    assert not (tmp_path / FAMILIARITY_FILE).exists()
    assert f"the operating point and {FAMILIARITY_FILE} of the earlier weights do not hold" in caplog.text


def test_a_damaged_slice_is_named(checkpoint, dataset, tmp_path, capsys):
    shutil.copytree(dataset, tmp_path / "data")
    (tmp_path / "data" / "images" / "0002.nii.gz").write_bytes(b"junk")
    assert main(["familiarity", "seg_student", str(checkpoint), str(tmp_path / "data")]) == 2
    assert "0002.nii.gz: " in capsys.readouterr().err


def test_what_is_refused(checkpoint, dataset, tmp_path, capsys):
    assert main(["familiarity", "seg_student", str(checkpoint), str(tmp_path / "none")]) == 2
    assert "error: " in capsys.readouterr().err
    few = write_disc_slices(tmp_path / "few", count=12)
    assert main(["familiarity", "seg_student", str(checkpoint), str(few)]) == 2
    assert "can't be told from 24 slices of 6 patients" in capsys.readouterr().err


@pytest.mark.skipif(not FIGSHARE.is_file() or not RELEASED.is_file(), reason="needs ../shared/volumes")
def test_the_released_network_on_a_volume_from_elsewhere():
    """Judged as it is; with its grey values inverted, as a T2-weighted one looks, it is not."""
    predictor = BundlePredictor(BUNDLE, RELEASED, device="cpu")
    image, meta = read_image(FIGSHARE)
    assert finding_of(predictor(image, meta), ["tumour"]).found["feature_distance"] < 1.3
    top = np.percentile(image, 99.5)
    inverted = np.where(image > 0.08 * top, (top - image).clip(0), image)
    assert finding_of(predictor(inverted, meta), ["tumour"]).found["tumour"] == "not judged"
