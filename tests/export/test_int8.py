"""A network as 8-bit integers: what is written, what it changes, and which runtime runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet
from PIL import Image

from monai_kd.export import export_package, network_file
from monai_kd.export import int8 as int8_module
from monai_kd.export.int8 import agreement, largest_loss
from monai_kd.export.onnx_file import write_onnx
from monai_kd.export.slices import network_inputs
from monai_kd.inference import BundlePredictor
from monai_kd.io.checkpoints import save_checkpoint

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "seg_student"
SEGMENTATION = {"task": "segmentation", "activation": "sigmoid", "threshold": 0.5, "labels": {"0": "no", "1": "one"}}


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Path:
    """Bright discs on noise, and a file that is no image."""
    folder = tmp_path_factory.mktemp("slices")
    random, (rows, columns) = np.random.default_rng(0), np.mgrid[:40, :40]
    for number in range(12):
        disc = np.hypot(rows - random.integers(12, 28), columns - random.integers(12, 28)) < 9
        Image.fromarray((60 * random.random((40, 40)) + 190 * disc).astype(np.uint8)).save(folder / f"{number}.png")
    (folder / "z.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def student(slices, tmp_path_factory) -> Path:
    """Trained for a second to mark the discs."""
    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(0)
    network = BasicUNet(2, 3, 1, [4, 4, 8, 8, 8, 4], act=("relu", {"inplace": True}), norm="batch")
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    images = [np.asarray(Image.open(slices / f"{number}.png")).T / 255.0 for number in range(8)]
    grey = torch.as_tensor(np.stack(images), dtype=torch.float32)[:, None]
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    grey = torch.nn.functional.pad(grey, (4, 4, 4, 4), "reflect")
    for _ in range(40):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network((grey - mean) / std), (grey > 0.5).float())
        loss.backward()
        optimizer.step()
    save_checkpoint(network.state_dict(), folder / "model.pt")
    settings = {"features": [4, 4, 8, 8, 8, 4], "norm": "batch", "image_size": 48}
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder / "model.pt"


def test_agreement_is_the_dice_of_all_pixels():
    logits = {0: [[1, 1, -1, -1]], 1: [[1, -1, -1, -1]]}
    inputs = [np.full((1, 1), 0), np.full((1, 1), 1)]
    first = lambda image: [np.asarray([[logits[int(image[0, 0])]]], float)]  # noqa: E731
    second = lambda image: [np.asarray([[logits[1]]], float)]  # noqa: E731
    # Over two slices: 3 pixels and 2, of which 2 are the same.
    assert agreement(first, second, inputs, SEGMENTATION) == {"one": 0.8}
    assert agreement(first, first, inputs, SEGMENTATION) == {"one": 1.0}
    assert largest_loss({"one": 0.8, "two": None, "three": 0.9}) == ("one", 0.2)
    nothing = lambda image: [np.full((1, 1, 2, 2), -1.0)]  # noqa: E731
    found = agreement(nothing, nothing, inputs, SEGMENTATION)
    assert found == {"one": None}
    assert largest_loss(found) == ("no class", 1.0)


@pytest.mark.parametrize(
    ("settings", "shape", "expected"),
    [
        # indices of exclusive classes, without the background
        ({"task": "segmentation", "activation": "softmax", "labels": dict.fromkeys("012", "x")}, (3, 1, 2), None),
        ({"task": "classification", "class_names": ["a", "b"]}, (2,), {"a": 0.5, "b": 0.0}),
    ],
)
def test_agreement_of_classes(settings, shape, expected):
    if expected is None:
        settings = {**settings, "labels": {"0": "no", "1": "one", "2": "two"}}
        first = np.array([[[0, 0]], [[9, 9]], [[1, 1]]], float)
        second = np.array([[[0, 0]], [[9, 1]], [[1, 9]]], float)
        found = agreement(lambda _: [first[None]], lambda _: [second[None]], [np.zeros(1)], settings)
        assert found == {"one": round(2 / 3, 5), "two": 0.0}
        return
    answers = iter([[1, 0], [1, 0], [0, 1], [1, 0]])
    following = lambda _: [np.asarray([next(answers)], float)]  # noqa: E731
    # Both say a for the first slice, and only one of them for the second.
    assert agreement(following, following, [np.zeros(1)] * 2, settings) == expected


def test_inputs_are_those_of_the_bundle(slices, student, caplog):
    predictor = BundlePredictor(BUNDLE, student, device="cpu")
    inputs = network_inputs(predictor, slices, 100)
    assert {image.shape for image in inputs} == {(1, 3, 48, 48)}
    assert len(inputs) == 12
    assert "z.png is not used" in caplog.text
    assert len(network_inputs(predictor, slices, 3)) <= 3
    with pytest.raises(ValueError, match=r"no slice in .* can be used"):
        network_inputs(predictor, slices / "z.png", 3)


def test_int8_is_written_checked_and_run(slices, student, tmp_path, caplog):
    pytest.importorskip("nncf")
    pytest.importorskip("openvino")
    package = tmp_path / "package"
    export_package(BUNDLE, student, package, int8=slices, max_dice_loss=0.1)
    assert "6 slices calibrate the network (NNCF recommends 300)" in caplog.text
    assert "measured on 6: it says little about other slices. Give 600 slices or more." in caplog.text
    settings = json.loads((package / "settings.json").read_text())
    assert settings["precision"] == "int8"
    assert settings["int8"]["agreement_with_float32"]["tumour"] > 0.9
    assert (settings["int8"]["calibration_slices"], settings["int8"]["checked_slices"]) == (6, 6)
    assert (package / "requirements.txt").read_text() == "numpy\nopenvino\n"
    image = network_inputs(BundlePredictor(BUNDLE, student, device="cpu"), slices / "3.png", 1)[0]
    exact = network_file.open_network(package, "float32", "onnxruntime")(image)[0]
    ways = [("float32", "openvino"), ("bfloat16", "openvino"), ("int8", "openvino"), ("int8", "onnxruntime")]
    found = {way: network_file.open_network(package, *way)(image)[0] for way in ways}
    np.testing.assert_allclose(found["float32", "openvino"], exact, atol=1e-3)
    for way in ways[1:]:
        assert np.mean((found[way] > 0) == (exact > 0)) > 0.97, way
    assert np.abs(found["int8", "openvino"] - exact).max() > 1e-3
    done = subprocess.run(
        [sys.executable, str(package / "predict.py"), str(slices / "3.png"), "--output_dir", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tumour"]
    with pytest.raises(ValueError, match=r"tumour loses 0\.\d+ .* nothing was written"):
        export_package(BUNDLE, student, tmp_path / "other", int8=slices, max_dice_loss=0)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("installed", "precision", "runtime", "message"),
    [
        ((), "float32", None, "a runtime is not installed: pip install onnxruntime, or openvino"),
        (("onnxruntime",), "float32", "openvino", "openvino is not installed"),
        (("onnxruntime",), "bfloat16", None, "has no bfloat16 on a CPU: pip install openvino"),
        (("openvino",), "int8", None, "there is no model_int8.onnx here: it belongs to a package made with --int8"),
    ],
)
def test_a_runtime_that_is_absent_is_named(installed, precision, runtime, message, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in installed else None)
    with pytest.raises(ValueError, match=message):
        network_file.open_network(tmp_path, precision, runtime)


def test_openvino_runs_once_for_all_outputs(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    (tmp_path / "model.onnx").write_bytes(b"")
    runs = []

    class Results(dict):
        def to_tuple(self):
            return tuple(self.values())

    def compiled(image):
        runs.append(image)
        return Results(logits=image + 1, features=image + 2)

    monkeypatch.setattr(network_file, "openvino_core", lambda: SimpleNamespace(compile_model=lambda *_: compiled))
    assert tuple(network_file.open_network(tmp_path, "float32", "openvino")(1)) == (2, 3)
    assert runs == [1]


def test_what_openvino_cannot_run_in_bfloat16_runs_in_float32(tmp_path, monkeypatch):
    """Version 2026.4.1 on processors with AMX: it compiles a network as integers only without bfloat16."""
    hints = []

    def compile_model(_model, _device, given):
        hints.append(given)
        if not given:
            raise RuntimeError("No suitable implementations.")
        return "compiled"

    monkeypatch.setattr(network_file, "openvino_core", lambda: SimpleNamespace(compile_model=compile_model))
    with pytest.warns(UserWarning, match="runs in float32, slower"):
        assert network_file.openvino_network(tmp_path / "model_int8.onnx", "int8") == "compiled"
    assert hints == [{}, {"INFERENCE_PRECISION_HINT": "f32"}]
    # Another network that fails does so for another reason.
    monkeypatch.setattr(
        network_file, "openvino_core", lambda: SimpleNamespace(compile_model=lambda *_: compile_model(0, 0, {}))
    )
    with pytest.raises(RuntimeError, match="No suitable"):
        network_file.openvino_network(tmp_path / "model.onnx", "float32")


@pytest.mark.parametrize(
    ("own", "said"), [({"own_classes": ["a"]}, "said to show a tumour by the classes"), ({}, "recognised as unlike")]
)
def test_slices_that_are_judged_otherwise_end_the_export(own, said, slices, tmp_path, monkeypatch):
    """Logits that agree, beside a feature of 0 or 9, or log-odds of -9 or 9."""

    def opened(_folder, precision, *_):
        value = np.full((1, 1), 9.0 if precision == "int8" else -9.0 if own else 0.0)
        return lambda image: [np.ones((1, 1, 2, 2)), value]

    monkeypatch.setattr(int8_module, "open_network", opened)
    monkeypatch.setattr(int8_module, "quantise", lambda *_: None)
    monkeypatch.setattr(int8_module, "network_inputs", lambda *_: [np.zeros((1, 3, 2, 2), np.float32)] * 4)
    reference = None if own else {"mean": np.zeros(1), "precision": np.eye(1), "usual": 1.0}
    with pytest.raises(ValueError, match=f"2 of 2 slices are no longer, or newly, {said}"):
        int8_module.add_int8(None, tmp_path, {**SEGMENTATION, **own}, slices, 1, reference)


# Networks that are opened and freed in this order, and then a signal, as of a child that ends.
OPENED_AND_FREED = """
import signal, subprocess, sys
from pathlib import Path
from monai_kd.export.network_file import open_network
networks = [open_network(Path(sys.argv[1]), "float32", "openvino") for _ in range(3)]
while networks:
    del networks[0]
signal.signal(signal.SIGCHLD, lambda *_: None)
subprocess.run([sys.executable, "-c", ""], check=True)
print("alive")
"""


def test_a_child_that_ends_does_not_end_a_process_that_had_networks_of_openvino(tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    write_onnx(torch.nn.Conv2d(3, 1, 1), (3, 32, 32), tmp_path / "model.onnx")
    command = [sys.executable, "-c", OPENED_AND_FREED, str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip() == "alive"


def test_int8_needs_its_packages(student, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(ImportError, match=r"export --int8 needs nncf: pip install 'monai_kd\[openvino\]'"):
        export_package(BUNDLE, student, tmp_path / "package", int8=tmp_path)
