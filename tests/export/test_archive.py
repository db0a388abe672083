"""A bundle with its weights as one archive, read by what reads archives of the model zoo."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from students import CLASS_NAMES, classification_student, segmentation_student

from monai_kd import __version__
from monai_kd.__main__ import main
from monai_kd.bundle import trained_settings
from monai_kd.bundle.metadata import measured, of_weights
from monai_kd.bundle.temperature import temperature_of
from monai_kd.config import build_network
from monai_kd.export.archive import LARGEST_FILE, pack_bundle
from monai_kd.inference import BundlePredictor, read_image
from monai_kd.io.checkpoints import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = ROOT / "bundles"
HOME = "/home/somebody/data"
TINY_VIT = {"vit_name": "vit_tiny_patch16_224", "vit_image_size": 32}
TEACHERS = {
    "seg_teacher": {
        **{"_target_": "monai_kd.networks.HybridUNet", "in_channels": 3, "out_channels": 1, "norm": "batch"},
        **{"features": [4, 4, 8, 8, 8, 4], **TINY_VIT},
    },
    "cls_teacher": {
        **{"_target_": "monai_kd.networks.LateFusionClassifier", "num_classes": 3},
        "backbones": [{"name": "test_resnet", "image_size": 32}, {"name": "test_vit", "image_size": 32}],
    },
}
EACH = pytest.mark.parametrize("bundle", ["seg_student", "seg_teacher", "cls_student", "cls_teacher"])


def saved(bundle: str, folder: Path, **more) -> Path:
    """A checkpoint with settings that name the places of the computer that it was trained on."""
    folder.mkdir(parents=True, exist_ok=True)
    places = {
        **{"dataset_dir": HOME, "bundle_root": "/opt/monai_kd/bundles/x", "teacher_store": "~/store", "fold": 3},
        **{"teacher": {"checkpoint": "../teacher/model.pt", "dataset_dir": HOME, "fold": 3}, **more},
    }
    if bundle == "seg_student":
        return segmentation_student(folder, **places)
    if bundle == "cls_student":
        return classification_student(folder, **places)
    torch.manual_seed(0)
    definition = TEACHERS[bundle]
    names = {"class_names": ["meningioma", "glioma", "pituitary"]} if bundle.startswith("cls") else {}
    save_checkpoint(build_network(definition).state_dict(), folder / "model.pt")
    settings = {"network_def": definition, "image_size": 32, **names, **places}
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder / "model.pt"


def unpacked(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as content:
        assert content.testzip() is None
        assert {name.partition("/")[0] for name in content.namelist()} == {archive.name.rpartition("_v")[0]}
        content.extractall(folder)
    return folder / archive.name.rpartition("_v")[0]


def version_of(bundle: str) -> str:
    return json.loads((BUNDLES / bundle / "configs" / "metadata.json").read_text())["version"]


@EACH
def test_an_archive_is_a_whole_bundle(bundle, tmp_path, capsys):
    checkpoint = saved(bundle, tmp_path / "run")
    assert main(["pack", bundle, str(checkpoint), str(tmp_path)]) == 0
    archive = tmp_path / f"{bundle}_v{version_of(bundle)}.zip"
    assert hashlib.sha1(archive.read_bytes()).hexdigest() in capsys.readouterr().out
    folder = unpacked(archive, tmp_path / "out")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"LICENSE", "configs/metadata.json", "configs/train.json", "docs/README.md", "models/model.pt"} <= names
    assert {name for name in names if name.startswith("models/")} == {"models/model.pt", "models/settings.json"}
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [32, 32]
    assert metadata["eval_metrics"] == {}, "those of the bundle are of other weights"
    assert "EfficientNet-Lite0" not in metadata["description"], "that is what the bundle was released with"
    assert " The weights: " in metadata["description"]
    if bundle == "cls_student":
        assert list(metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values()) == CLASS_NAMES
    BundlePredictor(folder, folder / "models" / "model.pt", device="cpu")
    # Nothing tells about the computer of the training.
    said = (folder / "models" / "settings.json").read_text()
    assert "fold" in said
    for text in (HOME, "/opt", "~/store", "../teacher", str(tmp_path)):
        assert text not in said, text


def test_equal_weights_give_equal_archives(tmp_path):
    checkpoint = saved("cls_student", tmp_path / "run")
    first, second = (pack_bundle(BUNDLES / "cls_student", checkpoint, tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def evaluation_of(checkpoint: Path, folder: Path, **more) -> Path:
    folder.mkdir()
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    part = {"metrics": {"accuracy": {"value": 0.81239}, "auc": {"value": None}}, "count": 9}
    content = {"checkpoint": {"sha256": sha256}, "over_slices": part, "over_patients": {**part, "count": 3}}
    (folder / "metrics.json").write_text(json.dumps({"synthetic": True, **content, **more}))
    (folder / "temperature.json").write_text(
        json.dumps({"temperature": 2.5, "checkpoint": {"path": HOME, "sha256": sha256}})
    )
    return folder


def test_metrics_and_temperature_are_of_these_weights(tmp_path, monkeypatch):
    checkpoint = saved("cls_student", tmp_path / "run", preset="demo")
    evaluation = evaluation_of(checkpoint, tmp_path / "evaluation")
    folder = unpacked(pack_bundle(BUNDLES / "cls_student", checkpoint, tmp_path, evaluation=evaluation), tmp_path / "o")
    metrics = json.loads((folder / "configs" / "metadata.json").read_text())["eval_metrics"]
    assert metrics == {"accuracy": 0.8124, "slices": 9, "patients": 3, "synthetic": True}
    assert temperature_of(folder / "models" / "model.pt") == 2.5
    assert HOME not in (folder / "models" / "temperature.json").read_text()
    assert json.loads((folder / "models" / "settings.json").read_text())["synthetic"] is True
    monkeypatch.setenv("HOME", str(tmp_path))
    again = unpacked(
        pack_bundle(BUNDLES / "cls_student", checkpoint, tmp_path / "2", evaluation="~/evaluation"), tmp_path / "p"
    )
    assert temperature_of(again / "models" / "model.pt") == 2.5
    # The network of the archive is calibrated, whoever runs it.
    assert BundlePredictor(folder, folder / "models" / "model.pt", device="cpu").value("temperature") == 2.5


def test_the_operating_point_is_that_of_the_weights():
    """Not that of the weights which the bundle was released with."""
    bundle = BUNDLES / "seg_student"
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    settings = trained_settings(bundle / "models" / "model.pt")
    point = {"score": "max", "threshold": 0.5}
    assert metadata["operating_point"] == settings["operating_point"]
    assert of_weights(metadata, settings)["operating_point"] == settings["operating_point"]
    assert of_weights(metadata, {**settings, "operating_point": point})["operating_point"] == point
    assert "operating_point" not in of_weights(metadata, {**settings, "operating_point": None})


def test_means_of_masks(tmp_path):
    metrics = {
        "dice": {"over_slices": {"mean": 0.7}},
        "hd95_mm": {"over_slices": {"mean": 12.0}},
        "truth_area_mm2": {"over_slices": {"mean": 400.0}},
    }
    content = {"checkpoint": {"sha256": "ab"}, "overall": {"metrics": metrics, "slices": 5, "patients": 2}}
    (tmp_path / "metrics.json").write_text(json.dumps({"synthetic": False, **content}))
    assert measured(tmp_path, "ab") == {"mean_dice": 0.7, "mean_hd95_mm": 12.0, "slices": 5, "patients": 2}


def refused(tmp_path: Path, capsys, *more: str, checkpoint: Path | None = None) -> str:
    checkpoint = checkpoint or saved("cls_student", tmp_path / "run")
    assert main(["pack", "cls_student", str(checkpoint), str(tmp_path / "out"), *more]) == 2
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")]
    return capsys.readouterr().err


def test_what_is_refused(tmp_path, capsys):
    other = evaluation_of(saved("seg_student", tmp_path / "other"), tmp_path / "evaluation")
    assert "is of another checkpoint" in refused(tmp_path, capsys, "--evaluation", str(other))
    assert "there is no" in refused(tmp_path, capsys, "--evaluation", str(tmp_path))
    for name in ("../a", "A b", "seg__x", ""):
        assert "lower-case" in refused(tmp_path, capsys, "--name", name)
    assert "there is no checkpoint" in refused(tmp_path, capsys, checkpoint=tmp_path / "absent.pt")
    assert "it is of a segmentation" in refused(tmp_path, capsys, checkpoint=tmp_path / "other" / "model.pt")
    assert not list((tmp_path / "out").glob("*.zip"))
    pack_bundle(BUNDLES / "cls_student", tmp_path / "run" / "model.pt", tmp_path / "out")
    assert "raise version" in refused(tmp_path, capsys)


def test_large_weights_are_listed_for_the_repository(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_kd.export.archive.LARGEST_FILE", 1000_000)
    checkpoint, url = saved("cls_student", tmp_path / "run"), "https://example.org/a: #b.pt"
    pack_bundle(BUNDLES / "cls_student", checkpoint, tmp_path, name="brain_mri_classification", weights_url=url)
    folder = tmp_path / "brain_mri_classification"
    assert not (folder / "models" / "model.pt").exists()
    parser = ConfigParser()
    parser.read_config(str(folder / "large_files.yml"))
    sha256 = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    large = {"path": "models/model.pt", "url": url, "hash_val": sha256, "hash_type": "sha256"}
    assert parser["large_files"] == [large]
    assert (tmp_path / f"brain_mri_classification_v{version_of('cls_student')}.zip").is_file()
    assert LARGEST_FILE == 25 * 1024**2


def test_several_large_files_are_listed_in_one_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("monai_kd.export.archive.LARGEST_FILE", 10)
    monkeypatch.setattr("monai_kd.export.archive._try", lambda _: None)
    url = "https://example.org/weights"
    assert "is the address of one file, and" in refused(tmp_path, capsys, "--weights_url", url)
    assert not list((tmp_path / "out").glob("*"))
    pack_bundle(BUNDLES / "cls_student", tmp_path / "run" / "model.pt", tmp_path / "out", weights_url=f"{url}/")
    parser = ConfigParser()
    parser.read_config(str(tmp_path / "out" / "cls_student" / "large_files.yml"))
    listed = {each["path"]: each["url"] for each in parser["large_files"]}
    assert listed["models/model.pt"] == f"{url}/model.pt"
    assert listed["models/settings.json"] == f"{url}/settings.json"


ZOO = Path(os.environ.get("MODEL_ZOO", "/nowhere"))


@EACH
@pytest.mark.skipif(not (ZOO / "ci" / "verify_bundle.py").is_file(), reason="MODEL_ZOO names no checkout of the zoo")
def test_the_zoo_verifies_it(bundle, tmp_path):
    """By the zoo's own script, whose schema `prepare_schema.py` has put into ``models/`` of the checkout."""
    archive = pack_bundle(BUNDLES / bundle, saved(bundle, tmp_path / "run"), tmp_path)
    folder = unpacked(archive, tmp_path / "models")
    (tmp_path / "models" / "model_info.json").write_bytes((ZOO / "models" / "model_info.json").read_bytes())
    schema = json.loads((folder / "configs" / "metadata.json").read_text())["schema"].rpartition("/")[2]
    (folder / "eval").mkdir()
    (folder / "eval" / "schema.json").write_bytes((ZOO / "models" / schema).read_bytes())
    command = [sys.executable, str(ZOO / "ci" / "verify_bundle.py"), "-b", bundle, "-p", str(tmp_path / "models")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "export weights into TorchScript module successfully" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="needs the package build")
def test_an_archive_runs_where_the_package_is_a_wheel(tmp_path):
    # From a copy: building writes into the folder.
    source = tmp_path / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "monai_kd", "data_prep", "pyproject.toml", "setup.cfg", "README.md", "LICENSE"],
        **{"cwd": ROOT, "capture_output": True, "text": True, "check": True},
    ).stdout
    for name in filter(None, files.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    run = {"capture_output": True, "text": True, "timeout": 600}
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)], **run
    )
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (wheel,) = (tmp_path / "dist").glob(f"monai_kd-{__version__}-*.whl")
    target = tmp_path / "target"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, **run)
    # All that is no Python, such as pages and their scripts, is in it.
    wanted = {name for name in filter(None, files.split("\0")) if name.startswith(("monai_kd/", "data_prep/"))}
    assert {name for name in wanted if not (target / name).is_file()} == set()
    folder = unpacked(pack_bundle(BUNDLES / "seg_student", saved("seg_student", tmp_path / "run"), tmp_path), tmp_path)
    image = np.random.default_rng(0).normal(100, 30, (40, 40, 1)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.diag([-0.5, -0.5, 5, 1])), tmp_path / "slice.nii.gz")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = str(target)
    command = [sys.executable, "-m", "monai.bundle", "run", "inferring", "--input", str(tmp_path / "slice.nii.gz")]
    command += ["--config_file", str(folder / "configs" / "inference.json"), "--output_dir", str(tmp_path / "masks")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, **run)
    assert done.returncode == 0, done.stderr[-3000:]
    where = [sys.executable, "-c", "import monai_kd; print(monai_kd.__file__)"]
    assert str(target) in subprocess.run(where, cwd=tmp_path, env=environment, **run).stdout
    mask = np.asarray(nib.load(tmp_path / "masks" / "slice_mask.nii.gz").dataobj)
    expected = BundlePredictor(BUNDLES / "seg_student", tmp_path / "run" / "model.pt", device="cpu")(
        *read_image(tmp_path / "slice.nii.gz")
    )["pred"][0]
    np.testing.assert_array_equal(mask, np.asarray(expected))
    assert re.search(r"slice\.nii\.gz,ok", (tmp_path / "masks" / "findings.csv").read_text())
