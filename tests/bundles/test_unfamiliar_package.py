"""An exported folder tells images unlike the training slices by the same distance as the bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from disc_slices import write_disc_slices
from tiny import BUNDLES
from unfamiliar import stripes, taught

from monai_kd.export import export_package, predict
from monai_kd.inference import BundlePredictor, read_image
from monai_kd.inference.examination import NOT_JUDGED
from monai_kd.inference.input_kind import MOST_SLICES, UNFAMILIAR, UNLIKE
from monai_kd.io.trained import FAMILIARITY_FILE

RELEASED = BUNDLES / "seg_student" / "models" / "model.pt"
VOLUME = Path(__file__).resolve().parents[3] / "shared" / "volumes" / "brain1.nii.gz"
BUNDLE_NAMES = ("seg_student", "cls_student")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc_slices(tmp_path_factory.mktemp("discs"), count=36)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> dict[str, Path]:
    return {name: taught(name, tmp_path_factory.mktemp(name), dataset) for name in BUNDLE_NAMES}


@pytest.fixture(scope="module")
def packages(checkpoints, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, checkpoint in checkpoints.items():
        made[name] = tmp_path_factory.mktemp("exported") / name
        export_package(BUNDLES / name, checkpoint, made[name])
    return made


def predicted(package: Path, folder: Path, *arguments: str | Path) -> list[dict]:
    command = [sys.executable, package / "predict.py", *arguments, "--output_dir", folder]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def volume(path: Path, images: list[Path]) -> Path:
    planes = [np.asarray(nib.load(image).dataobj).reshape(64, 64) for image in images]
    nib.save(nib.Nifti1Image(np.stack(planes, axis=-1), np.diag([-1, -1, 6.0, 1])), path)
    return path


@pytest.mark.parametrize("name", BUNDLE_NAMES)
def test_distances_are_those_of_the_bundle(name, checkpoints, packages, dataset, tmp_path):
    images = sorted((dataset / "images").iterdir())
    paths = [images[0], volume(tmp_path / "v.nii.gz", images[:14]), stripes(tmp_path / "stripes.nii.gz", 3)]
    predictor = BundlePredictor(BUNDLES / name, checkpoints[name], device="cpu")
    found = {row["file"]: row for row in predicted(packages[name], tmp_path / "out", *paths)}
    for path in paths:
        expected = predictor(*read_image(path))["examination"]["feature_distance"]
        assert found[path.name]["feature_distance"] == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize("name", BUNDLE_NAMES)
def test_unlike_images_are_not_judged(name, packages, dataset, tmp_path):
    image = sorted((dataset / "images").iterdir())[0]
    path = stripes(tmp_path / "stripes.nii.gz", 2)
    # So low that all of it would be marked.
    low = ("--threshold=1e-6", "--presence_threshold=0", "--smallest_extent_mm=0") if name == "seg_student" else ()
    answer = "tumour" if name == "seg_student" else "class"
    rows = predicted(packages[name], tmp_path / "out", path, image, *low)
    unlike, like = [row for row in rows if row["file"] == path.name], [row for row in rows if row["file"] == image.name]
    assert len(like) == 1
    assert "warning" not in like[0]
    assert like[0][answer] != NOT_JUDGED
    for row in unlike:
        assert row["feature_distance"] >= UNFAMILIAR
        assert (row[answer], row["warning"]) == (NOT_JUDGED, UNLIKE.format(row["feature_distance"]))
    judged = predicted(packages[name], tmp_path / "judged", path, *low, "--judge_unfit")
    assert [row["warning"] for row in judged] == [row["warning"] for row in unlike]
    assert NOT_JUDGED not in [row[answer] for row in judged]
    if name == "seg_student":
        assert (unlike[0]["pixels"], judged[0]["pixels"]) == (0, 2 * 64 * 64)
        assert not np.asarray(nib.load(tmp_path / "out" / "stripes_mask.nii.gz").dataobj).any()
        assert np.asarray(nib.load(tmp_path / "judged" / "stripes_mask.nii.gz").dataobj).all()


def test_mirrored_networks_look_at_the_image_itself(checkpoints, dataset, tmp_path):
    checkpoint = tmp_path / "model.pt"
    for file in ("model.pt", FAMILIARITY_FILE, "settings.json"):
        (tmp_path / file).write_bytes(checkpoints["seg_student"].with_name(file).read_bytes())
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "mirror": [0]}))
    export_package(BUNDLES / "seg_student", checkpoint, tmp_path / "package")
    path = stripes(tmp_path / "stripes.nii.gz")
    (row,) = predicted(tmp_path / "package", tmp_path / "out", path)
    plain = BundlePredictor(BUNDLES / "seg_student", checkpoints["seg_student"], device="cpu")
    assert row["feature_distance"] == plain(*read_image(path))["examination"]["feature_distance"]


def test_weights_that_know_no_training_slices_judge_everything(checkpoints, tmp_path):
    for file in ("model.pt", "settings.json"):
        (tmp_path / file).write_bytes(checkpoints["seg_student"].with_name(file).read_bytes())
    export_package(BUNDLES / "seg_student", tmp_path / "model.pt", tmp_path / "package")
    assert not (tmp_path / "package" / "familiarity.npz").exists()
    (row,) = predicted(tmp_path / "package", tmp_path, stripes(tmp_path / "stripes.nii.gz"))
    assert "feature_distance" not in row
    assert row["tumour"] in (True, False)


def test_a_distance_unlike_that_of_the_bundle_is_refused(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "feature_distance", lambda *_: 0.5)
    with pytest.raises(
        ValueError, match=r"features of the exported network have the distance 0\.5, those of .* nothing"
    ):
        export_package(BUNDLES / "seg_student", checkpoints["seg_student"], tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_words_and_numbers_are_those_of_inference():
    assert (predict.UNLIKE, predict.NOT_JUDGED, predict.MOST_SLICES) == (UNLIKE, NOT_JUDGED, MOST_SLICES)


def test_8_bit_integers_keep_the_features(tmp_path):
    """Of the released network."""
    pytest.importorskip("nncf")
    pytest.importorskip("openvino")
    if not VOLUME.is_file():
        pytest.skip("needs the volume brain1")
    package = tmp_path / "package"
    export_package(BUNDLES / "seg_student", RELEASED, package, VOLUME, max_dice_loss=1)
    paths = [VOLUME, stripes(tmp_path / "stripes.nii.gz")]
    exact = predicted(package, tmp_path / "float", *paths, "--precision=float32")
    found = predicted(package, tmp_path / "int8", *paths)
    assert exact != found
    for one, other in zip(exact, found, strict=True):
        assert other["feature_distance"] == pytest.approx(one["feature_distance"], rel=0.2)
    assert [row["tumour"] for row in found] == [True, NOT_JUDGED]


def test_8_bit_integers_that_shift_the_features_are_refused(checkpoints, dataset, tmp_path):
    """As of a network of a few channels with random weights."""
    pytest.importorskip("nncf")
    pytest.importorskip("openvino")
    with pytest.raises(ValueError, match=r"with int8, \d+ of 18 slices are no longer, or newly, recognised as unlike"):
        export_package(
            BUNDLES / "seg_student", checkpoints["seg_student"], tmp_path / "p", dataset / "images", max_dice_loss=1
        )
    assert not (tmp_path / "p").exists()
