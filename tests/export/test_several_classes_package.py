"""The exported folder of a network of several classes gives the masks of the bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from class_students import NAMES, banded, classes_student, indices, nested

from monai_kd.export import export_package
from monai_kd.inference import BundlePredictor, read_image

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "seg_student"


def predicted(package: Path, *arguments: str | Path) -> list[dict]:
    command = [sys.executable, package / "predict.py", *arguments]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_masks_are_those_of_the_bundle(activation, tmp_path):
    checkpoint = classes_student(tmp_path / "model", activation)
    assert export_package(BUNDLE, checkpoint, tmp_path / "package") < 1e-3
    settings = json.loads((tmp_path / "package" / "settings.json").read_text())
    assert settings["labels"] == {"0": "background", **{str(i): name for i, name in enumerate(NAMES, 1)}}
    assert settings["activation"] == activation
    image = (banded() * 1000).round().astype(np.int16)
    # A sagittal volume, whose axes are turned before the network sees it.
    affine = np.array([[0, 0, 6, 0], [-0.5, 0, 0, 0], [0, 0.75, 0, 0], [0, 0, 0, 1.0]])
    volume = np.stack([image, image[::-1], image[:, ::-1]], axis=-1)
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "a.nii.gz")
    np.save(tmp_path / "b.npy", image.T)
    first, second = predicted(tmp_path / "package", tmp_path / "a.nii.gz", tmp_path / "b.npy", "--output_dir", tmp_path)
    mask = nib.load(tmp_path / "a_mask.nii.gz")
    expected = indices(volume / 1000) if activation == "softmax" else np.moveaxis(nested(volume / 1000), 0, -1)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
    np.testing.assert_allclose(mask.affine, affine)
    bundle = BundlePredictor(BUNDLE, checkpoint, device="cpu")(*read_image(tmp_path / "a.nii.gz"))["pred"]
    channels = np.asarray(bundle[0] if activation == "softmax" else np.moveaxis(np.asarray(bundle), 0, -1))
    np.testing.assert_array_equal(np.asarray(mask.dataobj), channels)
    of_npy = np.load(tmp_path / "b_mask.npy")
    flat = indices(banded()) if activation == "softmax" else nested(banded())
    np.testing.assert_array_equal(of_npy, np.swapaxes(flat, -1, -2))
    counts = [flat == number for number in (1, 2, 3)] if activation == "softmax" else flat
    assert second["classes"] == {name: int(own.sum()) for name, own in zip(NAMES, counts, strict=True)}
    assert second["pixels"] == int(np.any(list(counts), axis=0).sum())
    assert first["pixels"] == 3 * second["pixels"]


def test_a_softmax_has_no_threshold(tmp_path):
    export_package(BUNDLE, classes_student(tmp_path / "model"), tmp_path / "package")
    command = [sys.executable, str(tmp_path / "package" / "predict.py"), "x.nii", "--threshold", "0.3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "--threshold is not allowed here" in done.stderr) == (2, True)
