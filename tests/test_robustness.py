"""Degraded slices: what each degradation does to a slice whose answer is known."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

FILE = Path(__file__).parents[1] / "docs" / "experiments" / "robustness.py"
spec = importlib.util.spec_from_file_location("robustness", FILE)
robustness = importlib.util.module_from_spec(spec)
spec.loader.exec_module(robustness)

FLAT = np.full((64, 48), 0.5)
GENERATOR = np.random.default_rng(0)


def test_noise_is_rician():
    # Where there is no signal, the mean of a Rayleigh distribution.
    found = robustness.noise(np.zeros((400, 400)), 0.1, np.random.default_rng(1))
    assert found.min() >= 0
    assert found.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.02)
    assert robustness.noise(FLAT, 0.01, np.random.default_rng(1)).std() == pytest.approx(0.01, rel=0.1)


def test_blur_keeps_the_mean_and_has_its_width():
    point = np.zeros((65, 65))
    point[32, 32] = 1
    found = robustness.blur(point, 3, GENERATOR)
    assert found.sum() == pytest.approx(1, abs=1e-3)
    offset = np.arange(65) - 32
    assert np.sqrt((found.sum(1) * offset**2).sum()) == pytest.approx(3, rel=0.02)


def test_bias_is_a_smooth_field_of_its_strength():
    field = robustness.bias(np.ones((64, 48)), 0.6, np.random.default_rng(2))
    assert np.log(field).max() == pytest.approx(0.6)
    assert np.log(field).min() == pytest.approx(-0.6)
    assert np.abs(np.diff(np.log(field), n=2, axis=0)).max() < 1e-9


def test_contrast():
    assert robustness.contrast(np.array([[0.0, 0.25, 1.0]]), 0.5, GENERATOR).tolist() == [[0.0, 0.5, 1.0]]


@pytest.mark.parametrize("shape", [(64, 48), (65, 50)])
def test_resolution(shape):
    assert robustness.resolution(np.full(shape, 0.3), 4, GENERATOR) == pytest.approx(np.full(shape, 0.3))
    ramp = np.add.outer(np.arange(64.0), np.zeros(48))
    # A ramp stays where it is: no shift by half a pixel.
    assert robustness.resolution(ramp, 4, GENERATOR)[4:-4] == pytest.approx(ramp[4:-4])
    fine = np.indices((64, 48)).sum(0) % 2
    assert robustness.resolution(fine, 2, GENERATOR) == pytest.approx(np.full((64, 48), 0.5))


def test_jpeg_is_worse_with_less_quality():
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((64, 64)), 1)
    errors = [np.abs(robustness.jpeg(image, quality, GENERATOR) - image).mean() for quality in (95, 50, 10)]
    assert errors == sorted(errors)
    assert errors[0] < 0.02


@pytest.mark.parametrize("kind", robustness.KINDS)
def test_any_grey_values_and_the_same_in_every_call(kind):
    image = np.random.default_rng(3).integers(-200, 30000, (40, 32)).astype(float)
    for strength in robustness.KINDS[kind][1]:
        one, other = (robustness.degraded(image, kind, strength, 5) for _ in range(2))
        assert one.dtype == np.int16
        assert one.min() >= 0
        assert np.array_equal(one, other)
    # Brightness and contrast of the file do not matter.
    assert np.abs(robustness.degraded(2 * image + 7, kind, strength, 5).astype(int) - one).max() <= 1
    assert robustness.degraded(np.zeros((8, 8)), "contrast", 2.0, 0).max() == 0


def test_folder_has_the_fold_with_its_geometry_and_masks(tmp_path):
    data = tmp_path / "data"
    affine = np.diag([-0.5, -0.4, 6, 1])
    entries = []
    for number in range(4):
        for kind in ("images", "labels"):
            (data / kind).mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 2 if kind == "labels" else 900, (16, 24, 1))
            nib.save(nib.Nifti1Image(pixels.astype(np.int16), affine), data / kind / f"{number}.nii.gz")
        entries.append({"image": f"images/{number}.nii.gz", "label": f"labels/{number}.nii.gz", "fold": number % 2})
    # A mask that is not to be used, and a slice without a tumour, which needs none.
    left_out = [{**entries[1], "labelled": False}, {"image": "images/1.nii.gz", "tumour": False, "fold": 1}]
    (data / "datalist.json").write_text(json.dumps({"labels": {"1": "a"}, "training": entries + left_out}))
    robustness.write_degraded(data, tmp_path / "out", "blur", 2, 1)
    found = json.loads((tmp_path / "out" / "datalist.json").read_text())
    assert found == {"labels": {"1": "a"}, "training": entries[1::2]}
    for entry in entries[1::2]:
        image = nib.load(tmp_path / "out" / entry["image"])
        assert image.shape == (16, 24, 1)
        assert image.affine == pytest.approx(affine)
        before = nib.load(data / entry["image"]).get_fdata()
        assert image.get_fdata().std() / image.get_fdata().mean() < before.std() / before.mean()
        assert (tmp_path / "out" / entry["label"]).read_bytes() == (data / entry["label"]).read_bytes()
    entries[1]["image"] = "images/1.png"
    (data / "datalist.json").write_text(json.dumps({"training": entries}))
    with pytest.raises(ValueError, match=r"1\.png is no NIfTI file: convert the slices with --format nifti"):
        robustness.write_degraded(data, tmp_path / "other", "blur", 2, 1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"overall": {"metrics": {"dice": {"over_slices": {"mean": 0.5, "interval_95": [0.4, 0.6]}}}}}, "0.500 [0.400"),
        ({"over_slices": {"metrics": {"accuracy": {"value": 0.9, "interval_95": None}}}}, "0.900 [nan"),
    ],
)
def test_row_of_masks_and_of_classes(content, expected, tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert robustness.row("blur 2", tmp_path).startswith(f"| blur 2 | {expected}")
