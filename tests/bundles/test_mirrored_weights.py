"""Weights whose settings say that inference averages over mirror images: everywhere the same answer."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny import BUNDLES, untrained

from monai_kd.bundle import trained_settings
from monai_kd.export import export_package
from monai_kd.inference import BundlePredictor, read_image


@pytest.fixture(params=["seg_student", "cls_student"])
def checkpoint(request, tmp_path) -> Path:
    return untrained(request.param, tmp_path / request.param, mirror=[0])


@pytest.fixture
def slice_file(tmp_path) -> Path:
    y, x = np.mgrid[:40, :48]
    pixels = 500 + 300 * np.sin(x / 5) * np.cos(y / 3) + 4 * x
    nib.save(nib.Nifti1Image(pixels.astype(np.int16)[..., None], np.diag([-1.0, -1, 5, 1])), tmp_path / "slice.nii.gz")
    return tmp_path / "slice.nii.gz"


def probabilities(predictor: BundlePredictor, file: Path) -> np.ndarray:
    output = predictor(*read_image(file))
    return np.asarray(output["probability" if "probability" in output else "pred"], dtype=float)


def test_the_settings_are_the_default_and_can_be_overridden(checkpoint, slice_file):
    bundle = BUNDLES / checkpoint.parent.name
    predictor = BundlePredictor(bundle, checkpoint, device="cpu")
    plain = BundlePredictor(bundle, checkpoint, device="cpu", mirror=[])
    assert (predictor.value("mirror"), plain.value("mirror")) == ([0], [])
    found, alone = probabilities(predictor, slice_file), probabilities(plain, slice_file)
    assert np.abs(found - alone).max() > 1e-6
    # By hand: logits of the prepared slice and of its mirror image, mirrored back.
    image = torch.as_tensor(plain(*read_image(slice_file))["image"])[..., 0][None]
    with torch.no_grad():
        logits, other = plain.network(image), plain.network(image.flip(2))
    if logits.ndim == 2:
        np.testing.assert_allclose(found.ravel(), torch.softmax((logits + other) / 2, 1)[0], atol=1e-6)
    else:
        mean = torch.sigmoid((logits + other.flip(2)) / 2)
        assert abs(float(mean.mean()) - found.mean()) < 5e-3


def test_a_package_gives_the_same(checkpoint, tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    bundle, package = BUNDLES / checkpoint.parent.name, tmp_path / "package"
    # It compares the probabilities of the bundle and of the package on noise.
    assert export_package(bundle, checkpoint, package) < 1e-5
    assert json.loads((package / "settings.json").read_text())["mirrored"] == [0]
    # Each image goes through the network twice.
    settings = json.loads(checkpoint.with_name("settings.json").read_text())
    checkpoint.with_name("settings.json").write_text(json.dumps({**settings, "mirror": []}))
    export_package(bundle, checkpoint, tmp_path / "plain")
    nodes, plain = (len(onnx.load(tmp_path / name / "model.onnx").graph.node) for name in ("package", "plain"))
    assert nodes > 1.9 * plain


@pytest.mark.parametrize("mirror", [True, [0.5], "0", [-1], None])
def test_damaged_settings(mirror, tmp_path):
    checkpoint = untrained("seg_student", tmp_path, mirror=mirror)
    with pytest.raises(ValueError, match="mirror"):
        trained_settings(checkpoint)


def test_earlier_settings_have_none(tmp_path):
    assert trained_settings(untrained("seg_student", tmp_path))["mirror"] == []
