"""A network that was trained elsewhere is measured by evaluate.json, as the config of a student describes it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from documented import run
from monai.bundle import create_workflow
from PIL import Image
from tiny import BUNDLES, NETWORKS, cause, config, infer, untrained
from volumes import MODALITIES, REGIONS, write_volumes

from monai_kd.bundle import Teacher, trained_settings
from monai_kd.bundle.teacher_settings import described_settings
from monai_kd.config import build_network
from monai_kd.transforms import NORMALIZATION_OF_VOLUMES

NORMALIZE = {"_target_": "NormalizeIntensity", "channel_wise": True}
# Foreground where the z-score is above that of half of the pixels of a disc.
ABOVE = 3.6
BRIGHTER = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 1, "kernel_size": 1}
OF_MASKS = {"mask_names": ["lesion"], "activation": "sigmoid"}
DESCRIBED: dict[str, Any] = {"network_def": BRIGHTER, "image_size": 64, "in_channels": 1, "normalization": NORMALIZE}


def weights(folder: Path, channels: int = 1) -> Path:
    """Those of `BRIGHTER`; with two channels, the first is the background."""
    state = {"weight": torch.zeros(channels, 1, 1, 1), "bias": torch.zeros(channels)}
    state["weight"][-1], state["bias"][-1] = 50, -50 * ABOVE
    torch.save(state, folder / "foreign.pt")
    return folder / "foreign.pt"


def evaluate(
    bundle: str, dataset: Path, folder: Path, checkpoint: Path, described: dict[str, Any], **more: Any
) -> Path:
    (folder / "described.json").write_text(json.dumps({"teacher_settings": described}))
    values = {"dataset_dir": str(dataset), "checkpoint": str(checkpoint), "output_dir": str(folder / "out")}
    values |= {"device": "cpu", "logging_file": False, "bootstrap": 10, **more}
    files = [*config(bundle, "evaluate"), str(folder / "described.json")]
    workflow = create_workflow(config_file=files, workflow_type="infer", **values)
    workflow.run()
    workflow.finalize()
    return folder / "out"


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "slices.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pixels(dataset: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(dataset / name).dataobj)[..., 0].astype(float)


def z_scores(image: np.ndarray) -> np.ndarray:
    return (image - image.mean()) / image.std()


def check_dice(rows: list[dict[str, str]], dataset: Path) -> None:
    assert len(rows) > 2
    for row in rows:
        found = z_scores(pixels(dataset, row["image"])) > ABOVE
        truth = pixels(dataset, row["image"].replace("images", "labels")) > 0
        dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
        assert 0.1 < dice < 0.95
        assert float(row["dice"]) == pytest.approx(dice, abs=1e-6)


def test_masks(disc_dataset, tmp_path, caplog):
    found = evaluate("seg_student", disc_dataset, tmp_path, weights(tmp_path), {**DESCRIBED, **OF_MASKS}, part="all")
    rows = table(found)
    check_dice(rows, disc_dataset)
    metrics = json.loads((found / "metrics.json").read_text())
    assert metrics["settings"]["network_def"] == BRIGHTER
    assert "What the checkpoint was trained on is not known" in " ".join(metrics["notes"])


def test_masks_by_softmax_have_a_background(disc_dataset, tmp_path):
    """The last of three classes is what is bright."""
    described = {**DESCRIBED, "network_def": {**BRIGHTER, "out_channels": 4}, "activation": "softmax"}
    described["mask_names"] = ["meningioma", "glioma", "pituitary"]
    found = evaluate("seg_teacher", disc_dataset, tmp_path, weights(tmp_path, channels=4), described, part="all")
    rows = table(found)
    assert {row["dice"] for row in rows if row["class_name"] != "pituitary"} == {"0.0"}
    check_dice([row for row in rows if row["class_name"] == "pituitary"], disc_dataset)


@pytest.mark.parametrize("constants", [False, True])
def test_classes(constants, disc_dataset, tmp_path):
    network = build_network(NETWORKS["cls_student"]).eval()
    torch.save(network.state_dict(), tmp_path / "foreign.pt")
    described = {"network_def": NETWORKS["cls_student"], "image_size": 64, "in_channels": 3, "normalization": NORMALIZE}
    described["class_names"] = ["meningioma", "glioma", "pituitary"]
    if constants:
        del described["normalization"]
        described |= {"mean": [0.3] * 3, "std": [0.2] * 3}
    found = evaluate("cls_student", disc_dataset, tmp_path, tmp_path / "foreign.pt", described)
    for row in table(found):
        image = pixels(disc_dataset, row["image"])
        scaled = (image - image.min()) / np.ptp(image)
        given = (scaled - 0.3) / 0.2 if constants else z_scores(image)
        # Of the file, x is the column, and so it is of the network's image.
        with torch.inference_mode():
            expected = network(torch.tensor(given.T.copy())[None, None].expand(1, 3, -1, -1).float()).softmax(1)[0]
        returned = torch.tensor([float(row[f"p_{name}"]) for name in described["class_names"]])
        torch.testing.assert_close(returned, expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("bundle", "described", "said"),
    [
        ("seg_student", DESCRIBED, "teacher_settings lacks mask_names, activation: what is evaluated, "),
        ("cls_student", {**DESCRIBED, **OF_MASKS}, "teacher_settings lacks class_names"),
        ("seg_student", {**DESCRIBED, **OF_MASKS, "activation": "softmax"}, "has 1 outputs, and 2 are described: one"),
        ("seg_student", {**DESCRIBED, **OF_MASKS, "mask_names": ["tumour", "b"]}, "has 1 outputs, and 2 are described"),
        (
            "seg_student",
            {**DESCRIBED, **OF_MASKS, "in_channels": 3},
            "fails on a black image with in_channels 3",
        ),
        ("seg_student", {**OF_MASKS, "network_def": BRIGHTER}, "teacher_settings lacks image_size, in_channels, mean"),
        ("seg_student", {**DESCRIBED, **OF_MASKS, "size": 3}, "teacher_settings has size"),
    ],
)
def test_what_is_missing_is_said(bundle, described, said, disc_dataset, tmp_path):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        evaluate(bundle, disc_dataset, tmp_path, weights(tmp_path), described)
    assert said in cause(caught.value)


def test_the_line_of_the_page(lines, disc_dataset, tmp_path, monkeypatch):
    (line,) = lines
    (tmp_path / "ZOO" / "models").mkdir(parents=True)
    weights(tmp_path).rename(tmp_path / "ZOO" / "models" / "model.pt")
    (tmp_path / "teacher.json").write_text(json.dumps({"teacher_settings": {**DESCRIBED, **OF_MASKS}}))
    (tmp_path / "bundles").symlink_to(BUNDLES)
    (tmp_path / "DATA").symlink_to(disc_dataset)
    run(line, tmp_path, monkeypatch, device="cpu")
    check_dice(table(tmp_path / "runs" / "zoo"), disc_dataset)


@pytest.mark.parametrize("more", [0, 1])
def test_volumes(more, tmp_path):
    """The network marks what is brighter than the mean of the head by its standard deviation, in the first channel.

    It may have another output, which marks nothing, and which the data set does not know.
    """
    dataset = write_volumes(tmp_path / "set", size=(24, 24, 16))
    network = {"_target_": "torch.nn.Conv3d", "in_channels": 4, "out_channels": 3 + more, "kernel_size": 1}
    state = {"weight": torch.zeros(3 + more, 4, 1, 1, 1), "bias": torch.full((3 + more,), -50.0)}
    state["weight"][more:, 0] = 50
    torch.save(state, tmp_path / "foreign.pt")
    halved = {"_target_": "ScaleIntensityRange", "a_min": 0.0, "a_max": 1.0, "b_min": 0.0, "b_max": 0.5}
    described = {"network_def": network, "image_size": [16, 16, 16], "in_channels": 4}
    described |= {"mask_names": [*["organ"] * more, *REGIONS], "activation": "sigmoid"}
    # The regions are those of the data list.
    described["volumes"] = {"modalities": MODALITIES, "orientation": "RAS", "spacing": None}
    described["volumes"]["normalization"] = [*NORMALIZATION_OF_VOLUMES, halved]
    (tmp_path / "described.json").write_text(json.dumps({"teacher_settings": described}))
    values = {"dataset_dir": str(dataset), "checkpoint": str(tmp_path / "foreign.pt"), "device": "cpu"}
    files = [*config("seg_student", "evaluate", "volumes_evaluate"), str(tmp_path / "described.json")]
    workflow = create_workflow(
        config_file=files, workflow_type="infer", output_dir=str(tmp_path / "out"), logging_file=False, **values
    )
    workflow.run()
    workflow.finalize()
    with (tmp_path / "out" / "volumes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        channel = np.asarray(nib.load(dataset / row["image"]).dataobj).astype(float)
        label = np.asarray(nib.load(dataset / row["image"].replace("flair", "seg")).dataobj)
        head = channel[channel != 0]
        scores = np.where(channel != 0, (channel - head.mean()) / head.std(), 0) * 0.5
        for name, values_of_region in REGIONS.items():
            truth, found = np.isin(label, values_of_region), scores > 1
            dice = 2 * (truth & found).sum() / (truth.sum() + found.sum())
            assert float(row[f"dice_{name}"]) == pytest.approx(dice, abs=1e-6)
            assert 0 < dice < 1


VOLUMES: dict[str, Any] = {"modalities": ["t1"], "orientation": "RAS", "spacing": None, "regions": {"t": [1]}}
VOLUMES["normalization"] = NORMALIZATION_OF_VOLUMES


@pytest.mark.parametrize(
    ("more", "files", "said"),
    [
        ({"volumes": VOLUMES}, [], "teacher_settings describes a network of volumes: add volumes_evaluate.json"),
        ({"volumes": VOLUMES, "mean": [0.0], "std": [1.0]}, ["volumes_evaluate"], "mean and std are of slices"),
        ({}, ["volumes_evaluate"], "of a network that teacher_settings describes, give its volumes there"),
        ({"image_size": [32, 32, 32]}, ["volumes_evaluate"], "teacher_settings lacks volumes, with modalities, orient"),
        (
            {"spatial_dims": 3},
            ["volumes_evaluate"],
            "teacher_settings lacks volumes, with modalities, orient",
        ),
        (
            {"volumes": VOLUMES, "normalization": NORMALIZE},
            ["volumes_evaluate"],
            "teacher_settings#normalization is of slices: give that of volumes",
        ),
        (
            {"volumes": {**VOLUMES, "normalization": {"_target_": "LoadImage"}}},
            ["volumes_evaluate"],
            "volumes, of settings.json or teacher_settings: normalization has {'_target_': 'LoadImage'}",
        ),
        (
            {"volumes": {"modalities": ["t1"], "orientation": "RAS"}},
            ["volumes_evaluate"],
            "teacher_settings#volumes lacks spacing, normalization: give those of the teacher's own preprocessing",
        ),
        (
            {"volumes": {**VOLUMES, "spacings": [1, 1, 1]}},
            ["volumes_evaluate"],
            "teacher_settings#volumes has spacings; it takes modalities, orientation, spacing, normalization and "
            "regions",
        ),
    ],
)
def test_volumes_and_slices_are_told_apart(more, files, said, tmp_path):
    dataset = write_volumes(tmp_path / "set", count=2)
    described = {**{name: value for name, value in DESCRIBED.items() if name != "normalization"}, **OF_MASKS, **more}
    if not more:
        described["normalization"] = NORMALIZE
    (tmp_path / "described.json").write_text(json.dumps({"teacher_settings": described}))
    values = {"dataset_dir": str(dataset), "checkpoint": str(weights(tmp_path)), "output_dir": str(tmp_path / "out")}
    names = [*config("seg_student", "evaluate", *files), str(tmp_path / "described.json")]
    given = {"workflow_type": "infer", "device": "cpu", "logging_file": False, "part": "all", **values}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        create_workflow(config_file=names, **given).run()
    assert said in cause(caught.value)


@pytest.mark.parametrize("bundle", ["seg_student", "cls_student"])
def test_a_settings_file_names_no_transform(bundle, disc_dataset, tmp_path):
    """Only a config may: a settings.json may come from a stranger."""
    marker = tmp_path / "marker"
    hostile = {"_target_": "pathlib.Path.touch", "self": f"$__import__('pathlib').Path({str(marker)!r})"}
    system = {"_target_": "os.system", "command": f"touch {marker}"}
    for number, normalization in enumerate((hostile, system)):
        checkpoint = untrained(bundle, tmp_path / str(number), normalization=normalization)
        assert "normalization" not in trained_settings(checkpoint)
        given = {"dataset_dir": str(disc_dataset), "checkpoint": str(checkpoint), "bootstrap": 0}
        infer(bundle, "evaluate", output_dir=str(tmp_path / "out"), **given)
        assert not marker.exists()
    checkpoint = untrained("seg_teacher", tmp_path / "teacher", normalization=system)
    described = {"taps": {"d1": "unet.upcat_1"}}
    for settings in ({}, described):
        run = {"dataset_dir": None, "fold": 0, "leave_out": []}
        teacher = Teacher(str(checkpoint), BUNDLES / "seg_teacher", "out", run, settings=settings)
        assert "normalization" not in teacher.trained


def test_areas_of_slices_in_another_plane(tmp_path):
    """By the configs of volumes: sagittal, with pixels of 1 × 3 mm, and a PNG, whose pixels the data list knows."""
    affine = np.array([[0, 0, 5.0, 0], [1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]])
    label = np.zeros((32, 40), np.uint8)
    label[8:16, 10:18] = 1
    image = (np.random.default_rng(0).normal(100, 5, label.shape) + 100 * label).astype(np.uint8)
    for name, pixels_of in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(pixels_of[..., None], affine), tmp_path / f"{name}.nii.gz")
        Image.fromarray(pixels_of.T).save(tmp_path / f"{name}.png")
    entries = [
        {
            "image": f"image.{end}",
            "label": f"label.{end}",
            "patient": end,
            "group": end,
            "class": 0,
            "fold": 0,
            "source": end,
        }
        for end in ("nii.gz", "png")
    ]
    more = {"modality": {"0": "t1"}, "regions": {"t": [1]}, "labels": {"1": "glioma"}, "spacing": [0.5, 0.5, 6.0]}
    (tmp_path / "datalist.json").write_text(json.dumps({"name": "planes", **more, "training": entries}))
    described = {**DESCRIBED, **OF_MASKS, "spatial_dims": 2, "image_size": [32, 32], "mask_names": ["t"]}
    described["volumes"] = VOLUMES
    del described["normalization"]
    (tmp_path / "described.json").write_text(json.dumps({"teacher_settings": described}))
    values = {"dataset_dir": str(tmp_path), "checkpoint": str(weights(tmp_path)), "output_dir": str(tmp_path / "out")}
    names = [*config("seg_student", "evaluate", "volumes_evaluate"), str(tmp_path / "described.json")]
    create_workflow(config_file=names, workflow_type="infer", device="cpu", logging_file=False, **values).run()
    with (tmp_path / "out" / "volumes.csv").open(encoding="utf-8") as file:
        areas = [float(row["truth_area_mm2"]) for row in csv.DictReader(file)]
    assert areas == pytest.approx([64 * 3.0, 64 * 0.25])


def test_single_values_in_the_place_of_those_of_a_run(disc_dataset, tmp_path):
    """Of a classifier, whose settings.json has the classes, and of a network of volumes."""
    names = ["meningioma", "glioma", "pituitary"]
    checkpoint = untrained("cls_student", tmp_path / "run", class_names=names)
    described = {"network_def": NETWORKS["cls_student"], "mean": [0.1] * 3, "std": [0.2] * 3}
    assert len(table(evaluate("cls_student", disc_dataset, tmp_path, checkpoint, described))) > 2
    network = {"_target_": "BasicUNet", "spatial_dims": 3, "in_channels": 1, "features": [4] * 6}
    of_run = {"network_def": network, "volumes": VOLUMES, "image_size": [32] * 3, "in_channels": 1, "spatial_dims": 3}
    checkpoint = untrained("seg_student", tmp_path / "volumes", mean=None, std=None, mask_names=["t"], **of_run)
    assert described_settings(checkpoint, {"taps": {"d1": "upcat_1"}})["volumes"] == VOLUMES
    with pytest.raises(ValueError, match="teacher_settings#normalization is of slices"):
        described_settings(checkpoint, {"normalization": NORMALIZE})
