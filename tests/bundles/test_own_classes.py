"""A segmentation that gives classes too judges presence by them, in the pass that computes its masks."""

from __future__ import annotations

import csv
import json
import sys
import threading
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from students import segmentation_student
from tiny import BUNDLES, infer
from torch import nn

from monai_kd.__main__ import main
from monai_kd.bundle import second_reader, trained_network, trained_settings
from monai_kd.config import build_network
from monai_kd.engines import PlanarInferer
from monai_kd.export import export_package, network_file, predict
from monai_kd.inference import BundlePredictor, seen_slices
from monai_kd.inference.own_classes import OwnClasses
from monai_kd.inference.second_reader import SecondReader
from monai_kd.io.checkpoints import save_checkpoint
from monai_kd.io.trained import READER_FILE
from monai_kd.networks.class_outputs import returning_classes

SIZE = 32
NAMES = ["meningioma", "glioma", "pituitary"]
DEFINITION: dict[str, Any] = {
    **{"_target_": "monai_kd.networks.TimmUNet", "encoder": "mobilenetv3_small_050", "classes": len(NAMES) + 1},
    "features": [16, 8, 8, 8, 8],
}
POINT = {"score": "max", "threshold": 0.5, "specificity": 0.9, "sensitivity": 0.9, "measured_on": "nothing"}


def write_student(folder: Path, **values: Any) -> Path:
    """Random weights, with masks and classes that differ from slice to slice and from mirror image to mirror image."""
    torch.manual_seed(0)
    network: Any = build_network(DEFINITION)
    with torch.no_grad():
        for _ in range(20):  # statistics that are not those of a new network
            network.train()(torch.randn(8, 3, SIZE, SIZE))
        network.encoder.classifier.weight.mul_(60)
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(network.state_dict(), folder / "model.pt")
    settings = {"network_def": DEFINITION, "image_size": SIZE, "mask_names": ["tumour"], "class_names": NAMES}
    settings["weights"] = {"supervised": 1, "class": 0.5}
    (folder / "settings.json").write_text(json.dumps({**settings, "mirror": [0], **values}))
    return folder / "model.pt"


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return write_student(tmp_path_factory.mktemp("own"), operating_point={**POINT, "classifier": "own"})


def volume(slices: int = 5) -> tuple[np.ndarray, dict[str, Any]]:
    image = np.random.default_rng(0).normal(size=(40, 36, slices)).astype(np.float32)
    affine = np.diag([0.9, 0.8, 3.0, 1.0])
    meta = {"affine": affine, "original_affine": affine, "spatial_shape": np.asarray(image.shape), "space": "RAS"}
    return image, {**meta, "original_channel_dim": float("nan"), "spacing": affine.diagonal()[:3]}


def as_classifier(checkpoint: Path, folder: Path) -> SecondReader:
    """The same encoder and head, taken out of the network, with a pass of its own."""
    assert main(["class_head", str(checkpoint), str(folder)]) == 0
    settings = trained_settings(folder / "model.pt")
    return SecondReader(trained_network(settings, folder / "model.pt"), settings, trained_settings(checkpoint))


def passes_of(network: nn.Module) -> list[int]:
    """To which the number of slices of each pass is added."""
    passes: list[int] = []
    network.register_forward_hook(lambda _module, inputs, _output: passes.append(len(inputs[0])))
    return passes


def test_one_pass_gives_masks_and_presence(student, tmp_path):
    predictor = BundlePredictor(BUNDLES / "seg_student", student, device="cpu")
    assert isinstance(predictor.reader, OwnClasses)
    assert "(max and its own classes)" in predictor.rules[0]
    passes = passes_of(predictor.network)
    found = predictor(*volume())
    assert sum(passes) == 2 * 5  # of each slice and its mirror image
    with_pass = BundlePredictor(BUNDLES / "seg_student", student, device="cpu", reader=None)
    expected = with_pass(*volume())
    np.testing.assert_array_equal(found["probability"], expected["probability"])
    slices = torch.as_tensor(found["image"]).movedim(-1, 0)
    apart = as_classifier(student, tmp_path / "head")(slices)
    assert np.ptp(apart) > 0.01
    np.testing.assert_allclose(predictor.reader(slices), apart, atol=1e-5)
    alone = expected["examination"]["presence_score"]
    assert found["examination"]["presence_score"] != pytest.approx(alone, abs=1e-3)


def test_slices_that_were_not_seen_have_a_pass(student, tmp_path):
    reader = second_reader(student, trained_settings(student))
    assert isinstance(reader, OwnClasses)
    slices = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    passes = passes_of(reader.network)
    first = reader(slices)
    np.testing.assert_allclose(first, as_classifier(student, tmp_path / "head")(slices), atol=1e-5)
    assert sum(passes) == 2 * 3
    np.testing.assert_array_equal(reader(slices[1:]), first[1:])
    assert sum(passes) == 2 * 3  # known by now
    other = slices.clone()
    other[:, 2] += 1  # which differs in its last channel alone
    assert np.abs(reader(other) - first).max() > 1e-4


def test_in_half_precision_too(student):
    """As inference runs it: with converted weights."""
    settings = trained_settings(student)
    network = trained_network(settings, student).eval().requires_grad_(False)
    reader = OwnClasses(network, settings, amp=True)
    slices = torch.randn(2, 3, SIZE, SIZE)
    passes = passes_of(network)
    PlanarInferer(amp=True, mirror=[0], reader=reader)(slices, network)
    found = reader(slices)
    assert sum(passes) == 4
    np.testing.assert_allclose(found, OwnClasses(network, settings)(slices), atol=0.05)


def test_another_network_in_its_place_is_refused(student):
    """As where TorchScript of it runs: the classes would be those of weights that nobody loaded."""
    settings = trained_settings(student)
    reader = second_reader(student, settings)
    traced = torch.jit.trace(trained_network(settings, student).eval(), torch.zeros(1, 3, SIZE, SIZE))
    with pytest.raises(ValueError, match="gives masks alone: choose one with --classifier none"):
        PlanarInferer(reader=reader)(torch.zeros(1, 3, SIZE, SIZE), traced)


def test_elsewhere_the_network_returns_masks_alone(student):
    predictor = BundlePredictor(BUNDLES / "seg_student", student, device="cpu")
    predictor(*volume())
    assert isinstance(predictor.network(torch.zeros(1, 3, SIZE, SIZE)), torch.Tensor)
    assert not predictor.network._forward_hooks


@pytest.mark.parametrize(
    ("point", "classifier", "asked"),
    [
        (None, None, True),
        ({**POINT, "classifier": "own"}, None, True),
        (POINT, None, False),  # chosen without
        (POINT, "own", True),
        (None, "none", False),
        ({**POINT, "classifier": "own"}, "none", False),
    ],
)
def test_when_its_own_classes_are_asked(point, classifier, asked, tmp_path):
    checkpoint = write_student(tmp_path, operating_point=point)
    settings = trained_settings(checkpoint)
    network = trained_network(settings, checkpoint).eval()
    assert isinstance(second_reader(checkpoint, settings, classifier, network=network), OwnClasses) == asked


def test_networks_without_classes(student, tmp_path):
    alone = segmentation_student(tmp_path)
    settings = trained_settings(alone)
    network = trained_network(settings, alone)
    assert second_reader(alone, settings, network=network) is None
    with pytest.raises(ValueError, match="gives no classes with 'no tumour' that fit its class_names, but masks alone"):
        second_reader(alone, settings, "own", network=network)
    # A class more than the settings name: the last one may be anything.
    settings = {**trained_settings(student), "class_names": NAMES[:2], "operating_point": None}
    assert second_reader(student, settings, network=trained_network(settings, student)) is None


def test_an_evaluation_chooses_an_operating_point_with_them(tmp_path, disc_dataset):
    checkpoint = write_student(tmp_path / "run", fold=None)
    (checkpoint.parent / READER_FILE).write_bytes(b"of an earlier operating point")
    values = {"dataset_dir": str(disc_dataset), "checkpoint": str(checkpoint), "negative_share": 0.5}
    infer("seg_student", "evaluate", output_dir=str(tmp_path / "1"), specificity=0.5, **values)
    point = json.loads((checkpoint.parent / "settings.json").read_text())["operating_point"]
    assert point["classifier"] == "own"
    assert not (checkpoint.parent / READER_FILE).exists()
    infer("seg_student", "evaluate", output_dir=str(tmp_path / "2"), **values)
    metrics = json.loads((tmp_path / "2" / "metrics.json").read_text())
    measured = metrics["presence"]["at_operating_point"]
    assert measured["specificity"]["by_slice"]["value"] >= 0.5
    assert measured["threshold"] == point["threshold"]
    infer("seg_student", "evaluate", output_dir=str(tmp_path / "3"), classifier="none", **values)
    rows = {
        number: list(csv.DictReader((tmp_path / number / "slices.csv").read_text().splitlines())) for number in "23"
    }
    assert all("p_tumour" in row for row in rows["2"])
    assert all("p_tumour" not in row for row in rows["3"])


def test_packages_give_the_same_in_one_file(student, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs monai_kd[export]")
    folder = tmp_path / "package"
    export_package(BUNDLES / "seg_student", student, folder)  # which compares presence scores
    assert not (folder / "classifier.onnx").exists()
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["own_classes"] == NAMES
    image, meta = volume()
    network = network_file.open_network(folder, "float32", "onnxruntime")
    found, _, second = predict.predict(image, meta["affine"][:3, :3], network, settings)
    predictor = BundlePredictor(BUNDLES / "seg_student", student, device="cpu")
    output = predictor(image, meta)
    _, judged = predict.judge(np.zeros(image.shape), found, image.shape, meta["affine"][:3, :3], settings, second)
    assert judged["presence_score"] == pytest.approx(output["examination"]["presence_score"], abs=1e-3)
    assert isinstance(predictor.reader, OwnClasses)
    slices = torch.as_tensor(output["image"]).movedim(-1, 0)
    np.testing.assert_allclose(1 / (1 + np.exp(-second)), predictor.reader(slices), atol=1e-4)


def test_with_features_and_as_integers(student, tmp_path, disc_dataset):
    pytest.importorskip("nncf", reason="needs monai_kd[openvino]")
    pytest.importorskip("onnxruntime", reason="needs monai_kd[export]")
    folder = tmp_path / "package"
    made = tmp_path / "run"
    made.mkdir()
    for name in ("model.pt", "settings.json"):
        (made / name).write_bytes(student.with_name(name).read_bytes())
    noise = tmp_path / "noise"
    noise.mkdir()
    for number in range(16):
        image = np.random.default_rng(number).normal(size=(40, 36, 1)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), noise / f"{number}.nii.gz")
    export_package(BUNDLES / "seg_student", made / "model.pt", folder, int8=noise, max_dice_loss=1)
    image, meta = volume()
    settings = json.loads((folder / "settings.json").read_text())
    float32, int8 = (
        predict.predict(image, meta["affine"][:3, :3], network_file.open_network(folder, name), settings)[2]
        for name in ("float32", "int8")
    )
    assert np.shape(float32) == np.shape(int8)
    assert np.isfinite(int8).all()
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file() and "vnni" in cpu.read_text():
        # Of random weights, which elsewhere, by other kernels, have little left of 8 bits.
        assert np.corrcoef(float32, int8)[0, 1] > 0.7


def test_a_bundle_for_others_holds_no_second_file(student, tmp_path):
    import zipfile

    from monai_kd.export.archive import pack_bundle

    with zipfile.ZipFile(pack_bundle(BUNDLES / "seg_student", student, tmp_path)) as archive:
        names = archive.namelist()
        (readme,) = (name for name in names if name.endswith("docs/README.md"))
        assert "classes that the network gives itself" in archive.read(readme).decode()
    assert not any(name.endswith(READER_FILE) for name in names)


def test_a_head_that_nothing_trained_is_not_asked(tmp_path):
    checkpoint = write_student(tmp_path, weights={"supervised": 1})
    settings = trained_settings(checkpoint)
    network = trained_network(settings, checkpoint).eval()
    assert second_reader(checkpoint, settings, network=network) is None
    assert isinstance(second_reader(checkpoint, settings, "own", network=network), OwnClasses)


def test_classes_are_mirrored_as_the_masks_are(student, tmp_path):
    other = write_student(tmp_path, operating_point={**POINT, "classifier": "own"}, mirror=[0, 1])
    given = BundlePredictor(BUNDLES / "seg_student", student, device="cpu", mirror=[0, 1])
    passes = passes_of(given.network)
    found = given(*volume())["examination"]
    assert sum(passes) == 4 * 5
    assert found == BundlePredictor(BUNDLES / "seg_student", other, device="cpu")(*volume())["examination"]


def test_long_volumes_and_slices_that_come_again(student, monkeypatch):
    monkeypatch.setattr(seen_slices, "MOST_SEEN", 6)
    settings = trained_settings(student)
    network = trained_network(settings, student).eval()
    reader = OwnClasses(network, settings)
    slices = torch.randn(20, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    expected = np.concatenate([OwnClasses(network, settings)(each[None]) for each in slices])
    PlanarInferer(mirror=[0], reader=reader)(slices.movedim(0, -1)[None], network)
    passes = passes_of(network)
    np.testing.assert_allclose(reader(slices), expected, atol=1e-5)
    assert max(passes) <= 16
    memory = seen_slices.SeenSlices()
    for number in (0, 1, 2, 3, 4, 0, 5, 6):
        memory.remember(slices[number : number + 1], torch.tensor([[float(number)]]))
    assert [row is not None for row in memory.recall_each(slices[:2])] == [True, False]


def test_threads_that_go_in_and_out_leave_it_as_it_was():
    class Giving(torch.nn.Module):
        with_classes = 0

    network, interval = Giving(), sys.getswitchinterval()

    def in_and_out() -> None:
        for _ in range(3000):
            with returning_classes(network):
                pass

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=in_and_out) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert network.with_classes == 0


def test_several_threads_may_be_inside(student):
    network = trained_network(trained_settings(student), student).eval()
    first, second = returning_classes(network), returning_classes(network)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert isinstance(network(torch.zeros(1, 3, SIZE, SIZE)), tuple)
    second.__exit__(None, None, None)
    assert isinstance(network(torch.zeros(1, 3, SIZE, SIZE)), torch.Tensor)
