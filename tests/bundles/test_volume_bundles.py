"""Training, evaluation and inference of volumes through the bundles: four channels, three regions within each other."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import shutil
import socket
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from ignite.engine import Events
from monai.bundle import create_workflow
from PIL import Image, ImageColor
from scipy import ndimage
from slices import write_dicom
from students import segmentation_student
from tiny import cause, config, interrupted, rows
from volumes import AFFINE, MODALITIES, REGIONS, SMALL_TRAINING, SPACING, nested, write_volumes

from monai_kd.__main__ import main
from monai_kd.bundle import Workflow, trained_network, trained_settings, volume_settings
from monai_kd.bundle.fingerprint import fingerprint
from monai_kd.config import build_network
from monai_kd.engines import LogitsInferer
from monai_kd.handlers import EpochSeed
from monai_kd.inference.overlay import outline_colours
from monai_kd.io import load_weights
from monai_kd.io.checksum import file_sha256
from monai_kd.io.trained import save_trained
from monai_kd.losses import DeepSupervision, DiceCE
from monai_kd.transforms import NORMALIZATION_OF_VOLUMES


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("volumes"))


def prepared(dataset: Path | None, output_dir: Path, *more: str, **overrides: Any) -> Workflow:
    values = {**SMALL_TRAINING, "output_dir": str(output_dir), **overrides}
    if dataset is not None:
        values["dataset_dir"] = str(dataset)
    workflow = Workflow(config("seg_student", "train", "volumes", *more), workflow_type="train", **values)
    workflow.initialize()
    return workflow


def trained(dataset: Path, output_dir: Path, *more: str, **overrides: Any) -> Workflow:
    workflow = prepared(dataset, output_dir, *more, **overrides)
    workflow.run()
    workflow.finalize()
    return workflow


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory) -> Path:
    """A student of a teacher that was trained first, by all terms of the recipe."""
    output_dir = tmp_path_factory.mktemp("run")
    trained(dataset, output_dir)
    return output_dir


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch) -> None:
    """They take most of the time; those of `run` are drawn."""
    monkeypatch.setattr("monai_kd.handlers.epoch_log.plot_curves", lambda *args, **kwargs: None)
    monkeypatch.setattr("monai_kd.handlers.overlay_grid.plot_overlays", lambda *args, **kwargs: None)


def test_student_of_a_teacher_learns(run):
    log = rows(run)
    assert [row["loss"] for row in log] == sorted((row["loss"] for row in log), reverse=True)
    terms = ("supervised", "logit", "feature", "attention", "edge")
    for row in log:
        assert all(row[f"loss/{term}"] > 0 for term in terms)
        assert sum(row[f"weighted/{term}"] for term in terms) == pytest.approx(row["loss"], rel=1e-4)
    settings = json.loads((run / "settings.json").read_text())
    assert settings["mask_names"] == list(REGIONS)
    assert settings["volumes"] == {
        **{"modalities": MODALITIES, "regions": REGIONS},
        **{"orientation": "RAS", "spacing": None, "normalization": NORMALIZATION_OF_VOLUMES},
    }
    (teacher,) = run.glob("teacher-*")
    its = json.loads((teacher / "settings.json").read_text())
    assert its["volumes"] == settings["volumes"]
    assert (its["network_def"]["_target_"], settings["network_def"]["_target_"]) == ("SegResNet", "BasicUNet")
    for name in ("model.pt", "last.ckpt", "curves.png", "overlays.png"):
        assert (run / name).stat().st_size > 0


def test_student_is_a_bare_network_of_four_channels_and_three_masks(run):
    network = load_weights(trained_network(trained_settings(run / "model.pt")), run / "model.pt").eval()
    assert network(torch.zeros(1, 4, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


def test_resumed_run_has_the_losses_of_an_uninterrupted_one(dataset, run, tmp_path):
    given = {"teacher_checkpoint": str(next(run.glob("teacher-*")) / "model.pt")}
    trained(dataset, tmp_path / "whole", **given)
    trainer = prepared(dataset, tmp_path / "parts", **given).parser.get_parsed_content("train#trainer")
    interrupted(trainer, after=1)
    trained(dataset, tmp_path / "parts", resume=True, **given)
    for expected, found in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        del expected["seconds"], found["seconds"]
        assert expected == found
    expected, found = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts"))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_patches_differ_between_epochs_and_not_between_runs(dataset, tmp_path):
    def batch(output_dir: Path, epoch: int) -> torch.Tensor:
        loader = prepared(dataset, output_dir).parser.get_parsed_content("train#dataloader")
        EpochSeed(0, loader)(SimpleNamespace(state=SimpleNamespace(epoch=epoch), set_data=lambda data: None))
        return next(iter(loader))["image"]

    first, second = batch(tmp_path, 1), batch(tmp_path, 2)
    # Two patches of each of the two volumes.
    assert first.shape == second.shape == (4, 4, 16, 16, 16)
    assert not torch.equal(first, second)
    assert torch.equal(second, batch(tmp_path, 2))


def test_patches_that_repeat_need_the_teacher_once(dataset, run, tmp_path):
    given = {"teacher_checkpoint": str(next(run.glob("teacher-*")) / "model.pt"), "recipe": "dist", "epochs": 3}
    stored = {**given, "views": 1, "teacher_store": str(tmp_path / "store")}
    trainer = prepared(dataset, tmp_path / "run", **stored).parser.get_parsed_content("train#trainer")
    seen: list[int] = []
    trainer.network.teachers["teacher"].register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    trainer.run()
    # Two patches of each of the two volumes, in three epochs.
    assert sum(seen) == 4


def test_heads_of_dynunet_are_supervised(dataset, tmp_path):
    small = {"network_def#filters": [4, 4, 8, 8, 8], "image_size": [32, 16, 16], "epochs": 1, "batch_size": 1}
    workflow = prepared(dataset, tmp_path, "students/dynunet", recipe="none", **small)
    parser = workflow.parser
    supervised = parser.get_parsed_content("loss").terms["supervised"]
    assert isinstance(supervised, DeepSupervision)
    assert isinstance(supervised.loss, DiceCE)
    trainer = parser.get_parsed_content("train#trainer")
    heads: list[torch.Tensor] = []
    parser.get_parsed_content("network").register_forward_hook(
        lambda network, inputs, output: heads.append(output.detach()) if network.training else None
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: losses.append(float(engine.state.loss_report.terms["supervised"])),
    )
    losses: list[float] = []
    labels: list[torch.Tensor] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: labels.append(torch.as_tensor(engine.state.output["label"])),
    )
    trainer.run()
    assert heads[0].shape == (2, 3, 3, 32, 16, 16)  # (B, heads, masks, spatial axes …)
    for found, head, label in zip(losses, heads, labels, strict=True):
        single = [float(DiceCE(sigmoid=True)(each, label)) for each in head.unbind(1)]
        assert found == pytest.approx(single[0] + single[1] / 2 + single[2] / 4, rel=1e-5)


@pytest.mark.parametrize(
    ("size", "regions", "multiclass", "channels"),
    [
        pytest.param((24, 20), REGIONS, False, 3, id="slices of four channels"),
        pytest.param((24, 24, 16), {"edema": [2], "core": [1, 4]}, True, 3, id="classes that exclude each other"),
    ],
)
def test_axes_and_classes_are_values(tmp_path, size, regions, multiclass, channels):
    folder = write_volumes(tmp_path / "set", size=size)
    datalist = json.loads((folder / "datalist.json").read_text())
    (folder / "datalist.json").write_text(json.dumps({**datalist, "regions": regions}))
    given = {"image_size": [16] * len(size), "spatial_dims": len(size), "multiclass": multiclass, "epochs": 1}
    trained(folder, tmp_path / "run", **given)
    (row,) = rows(tmp_path / "run")
    assert all(row[f"loss/{term}"] > 0 for term in ("supervised", "logit", "feature", "attention", "edge"))
    assert 0 < row["val/dice"] < 1
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["network_def"]["out_channels"] == channels
    assert (settings["mask_names"], settings["spatial_dims"]) == (list(regions), len(size))
    checkpoint, output_dir = str(tmp_path / "run" / "model.pt"), str(tmp_path / "eval")
    files, told = config("seg_student", "evaluate", "volumes_evaluate"), {"device": "cpu", "logging_file": False}
    workflow = Workflow(
        files, workflow_type="infer", checkpoint=checkpoint, output_dir=output_dir, dataset_dir=str(folder), **told
    )
    workflow.initialize()
    workflow.run()
    with open(tmp_path / "eval" / "volumes.csv", newline="") as file:
        columns = next(csv.reader(file))
    assert "dice" in columns
    assert [name for name in columns if name.startswith("dice_")] == [f"dice_{name}" for name in regions][
        len(regions) == 1 :
    ]
    assert ("truth_volume_ml" in columns, "truth_area_mm2" in columns) == (len(size) == 3, len(size) == 2)


def test_sliding_window_validates_whole_volumes(run, dataset, tmp_path):
    workflow = prepared(dataset, tmp_path, recipe="none")
    inferer = workflow.parser.get_parsed_content("validate#inferer")
    assert isinstance(inferer, LogitsInferer)
    shapes = {tuple(item["image"].shape) for item in workflow.parser.get_parsed_content("validate#dataset")}
    assert shapes == {(4, 24, 24, 16)}
    assert inferer(torch.zeros(1, 4, 24, 24, 16), lambda x: x[:, :3]).shape == (1, 3, 24, 24, 16)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"image_size": [16, 16]}, "image_size is [16, 16], and spatial_dims is 3"),
        ({"image_size": [16, 16, 4]}, "image_size must be whole numbers from 8, one an axis, got [16, 16, 4]"),
        ({"mask_names": ["edema"]}, "there are no regions edema; known are: tumour core, whole tumour, enhancing"),
        ({"multiclass": True}, "overlap, so that they can't be classes of a softmax"),
        ({"teacher_store": "store"}, "patches of volumes no image occurs twice"),
        ({"overlap": 1}, "overlap must be a number from 0, below 1"),
    ],
)
def test_bad_override_is_one_clear_error(dataset, run, tmp_path, overrides, message):
    given = {"teacher_checkpoint": str(next(run.glob("teacher-*")) / "model.pt")}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        trained(dataset, tmp_path, **given, **overrides)
    assert message in cause(caught.value)


def test_scaling_of_slices_is_said_to_have_no_effect(dataset, tmp_path, caplog):
    prepared(dataset, tmp_path / "run", recipe="none", mean=[0.5], std=[0.5]).finalize()
    assert "--mean, --std: NOT used, since volumes are scaled by `normalization`" in caplog.text


def test_there_are_no_phantoms_of_volumes(tmp_path):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        prepared(None, tmp_path)
    assert "dataset_dir: give the folder of a data set" in cause(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"spacing": [1.0, 1.0, 1.0]},
            "trained with spacing [1.0, 1.0, 1.0], and the teacher was trained with None",
        ),
        (
            {"normalization": {"_target_": "ScaleIntensity"}},
            "trained with normalization [{'_target_': 'ScaleIntensity'}], and the teacher was trained with [{",
        ),
        ({"orientation": "LPS"}, "with orientation LPS, and the teacher was trained with RAS"),
    ],
)
def test_a_teacher_of_another_task_is_refused(dataset, run, tmp_path, overrides, message):
    given = {"teacher_checkpoint": str(next(run.glob("teacher-*")) / "model.pt")}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        trained(dataset, tmp_path, **given, **overrides)
    assert message in cause(caught.value)


def test_a_teacher_of_more_regions_in_another_order_teaches(dataset, run, tmp_path, caplog):
    given = {"teacher_checkpoint": str(next(run.glob("teacher-*")) / "model.pt"), "epochs": 1}
    with caplog.at_level("INFO"):
        trained(dataset, tmp_path, **given, mask_names=list(REGIONS)[::-1][:2])
    taught = f"it teaches {', '.join(list(REGIONS)[::-1][:2])} (sigmoid)."
    assert f"of its masks, {', '.join(REGIONS)} (sigmoid), {taught}" in caplog.text


WINDOW = {"_target_": "ScaleIntensityRange", "a_min": 250.0, "a_max": 450.0, "b_min": 0.0, "b_max": 1.0, "clip": True}


def test_values_are_set_as_the_config_says_by_all(dataset, tmp_path):
    """By the student, the teacher that is trained first, evaluation and inference."""
    values = {"normalization": {**WINDOW, "_target_": "monai.transforms.ScaleIntensityRange"}, "epochs": 1}
    (tmp_path / "window.json").write_text(json.dumps({"normalization": [values.pop("normalization")]}))
    more = {**SMALL_TRAINING, "output_dir": str(tmp_path / "run"), "dataset_dir": str(dataset), **values}
    files = [*config("seg_student", "train", "volumes"), str(tmp_path / "window.json")]
    workflow = Workflow(files, workflow_type="train", **more)
    workflow.initialize()
    workflow.run()
    seen = workflow.value("validate#dataset")[0]["image"]
    workflow.finalize()
    entry = workflow.value("validate#dataset#data")[0]["image"][0]
    channel = np.asarray(nib.load(entry).dataobj).astype(float)
    expected = np.clip((channel - 250) / 200, 0, 1)
    # The first two axes of the file run to the left and to the back.
    np.testing.assert_allclose(np.asarray(seen[0]), expected[::-1, ::-1], atol=1e-5)
    for folder in (tmp_path / "run", next((tmp_path / "run").glob("teacher-*"))):
        assert json.loads((folder / "settings.json").read_text())["volumes"]["normalization"] == [WINDOW]
    given = {"checkpoint": str(tmp_path / "run" / "model.pt"), "output_dir": str(tmp_path / "out"), "device": "cpu"}
    for names, item in (
        (("evaluate", "volumes_evaluate"), {"dataset_dir": str(dataset)}),
        (("inference", "volumes_inference"), {"input": str(Path(entry).parent)}),
    ):
        other = Workflow(config("seg_student", *names), workflow_type="infer", logging_file=False, **given, **item)
        steps = other.value("preprocessing")
        image = (
            steps({"image": [str(Path(entry).with_name(f"{name}.nii.gz")) for name in MODALITIES]})["image"]
            if ("inference" in names)
            else steps(other.value("dataset#data")[0])["image"]
        )
        np.testing.assert_allclose(np.asarray(image), np.asarray(seen), atol=1e-5)
    # The next run knows the teacher by the same values, and another window is another run.
    with pytest.raises((RuntimeError, ValueError)) as caught:
        trained(dataset, tmp_path / "run", resume=True, **{**values, "epochs": 2})
    assert "volumes normalization was [{'_target_': 'ScaleIntensityRange'" in cause(caught.value)


@pytest.mark.parametrize("given", [{"_target_": "os.system", "command": "touch marker"}, "$[]", [3], {"a": 1}, 5, None])
def test_settings_of_a_stranger_name_no_other_normalization(run, dataset, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    for name in ("model.pt", "settings.json"):
        shutil.copy(run / name, tmp_path / name)
    settings = json.loads((run / "settings.json").read_text())
    settings["volumes"]["normalization"] = given
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    files = config("seg_student", "evaluate", "volumes_evaluate")
    more = {"checkpoint": str(tmp_path / "model.pt"), "output_dir": str(tmp_path / "out"), "dataset_dir": str(dataset)}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        Workflow(files, workflow_type="infer", logging_file=False, device="cpu", **more).value("preprocessing")
    assert "volumes, of settings.json or teacher_settings: " in cause(caught.value)
    assert not (tmp_path / "marker").exists()


def test_settings_of_an_earlier_version_have_the_one_that_it_had(run, dataset, tmp_path):
    settings = json.loads((run / "settings.json").read_text())
    del settings["volumes"]["normalization"]
    assert volume_settings(settings)["normalization"] == NORMALIZATION_OF_VOLUMES
    # Its teacher teaches, and its run goes on.
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    teacher = next(copied.glob("teacher-*"))
    for folder in (teacher, copied):
        kept_of_run = json.loads((folder / "settings.json").read_text())
        del kept_of_run["volumes"]["normalization"]
        (folder / "settings.json").write_text(json.dumps(kept_of_run))
    given = {"teacher_checkpoint": str(teacher / "model.pt"), "recipe": "kd"}
    prepared(dataset, tmp_path / "other", **given).value("distiller")
    # The folder of the teacher has no normalisation in its name, by which it is known.
    run_of_teacher = {"dataset_dir": str(dataset), "fold": 0}
    known = fingerprint(run_of_teacher)
    assert fingerprint({**run_of_teacher, "normalization": NORMALIZATION_OF_VOLUMES}) == known
    assert fingerprint({**run_of_teacher, "normalization": [WINDOW]}) != known
    trained(dataset, copied, resume=True, epochs=3)
    assert len(list(copied.glob("teacher-*"))) == 1
    (copied / "settings.json").write_text(json.dumps(kept_of_run))
    with pytest.raises((RuntimeError, ValueError)) as caught:
        trained(dataset, copied, resume=True, epochs=4, normalization={"_target_": "ScaleIntensity"})
    assert "volumes normalization was [{'_target_': 'NormalizeIntensity'" in cause(caught.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (MODALITIES[::-1], "bring modality and the images of the data list into the order of the network"),
        (["flair", "t1", "t1c", "t2"], None),
        ([name.upper() for name in MODALITIES], ""),
    ],
)
def test_channels_of_the_data_list_are_those_of_the_network(run, names, said, tmp_path, caplog):
    folder = write_volumes(tmp_path / "set")
    datalist = json.loads((folder / "datalist.json").read_text())
    modality = {str(number): name for number, name in enumerate(names)}
    (folder / "datalist.json").write_text(json.dumps({**datalist, "modality": modality}))
    given = {"checkpoint": str(run / "model.pt"), "output_dir": str(tmp_path / "out"), "dataset_dir": str(folder)}
    files = config("seg_student", "evaluate", "volumes_evaluate")
    workflow = Workflow(files, workflow_type="infer", device="cpu", logging_file=False, **given)
    if said:
        with pytest.raises((RuntimeError, ValueError)) as caught:
            workflow.value("volumes")
        assert said in cause(caught.value)
        return
    workflow.value("volumes")
    assert ("if these are not the same, in this order, the masks mean nothing" in caplog.text) == (said is None)


def test_a_teacher_that_is_described_without_volumes_is_refused(run, dataset, tmp_path):
    teacher = next(run.glob("teacher-*")) / "model.pt"
    alone = Path(shutil.copy(teacher, tmp_path / "teacher.pt"))
    definition = json.loads(teacher.with_name("settings.json").read_text())["network_def"]
    described = {"network_def": definition, "image_size": 16, "in_channels": 4, "mean": None, "std": None}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        trained(dataset, tmp_path / "out", recipe="kd", teacher_checkpoint=str(alone), teacher_settings=described)
    assert "teacher_settings lacks volumes" in cause(caught.value)


def test_a_patch_that_the_teacher_does_not_take(run, dataset, tmp_path):
    """SegResNet halves it three times, and the student here not at all."""
    student = {"_target_": "torch.nn.Conv3d", "in_channels": 4, "out_channels": 3, "kernel_size": 1}
    given = {"teacher_checkpoint": str(next(run.glob("teacher-*")) / "model.pt"), "recipe": "kd", "taps": {}}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        trained(dataset, tmp_path / "out", network_def=student, image_size=[18, 18, 18], **given)
    found = cause(caught.value)
    assert "the teacher, SegResNet, fails on an image of 18 × 18 × 18 with 4 channels, of its settings.json" in found
    assert "patches have the image_size of the student, [18, 18, 18]" in found


def test_masks_of_other_values_are_said(run, tmp_path, caplog):
    folder = write_volumes(tmp_path / "set")
    datalist = json.loads((folder / "datalist.json").read_text())
    name = next(iter(datalist["regions"]))
    datalist["regions"][name] = datalist["regions"][name][:-1] or [3]
    (folder / "datalist.json").write_text(json.dumps(datalist))
    given = {"teacher_checkpoint": str(next(run.glob("teacher-*")) / "model.pt"), "recipe": "kd"}
    prepared(folder, tmp_path / "out", **given).value("distiller")
    assert "the teacher teaches other masks than the labels do" in caplog.text


def test_an_archive_is_of_volumes(run, dataset, tmp_path, monkeypatch):
    """Its own inference.json and evaluate.json give what the configs of volumes give, laid over those of slices."""
    evaluated = tmp_path / "evaluated"
    given = {"checkpoint": str(run / "model.pt"), "dataset_dir": str(dataset), "device": "cpu", "logging_file": False}
    files = config("seg_student", "evaluate", "volumes_evaluate")
    first = Workflow(files, workflow_type="infer", output_dir=str(evaluated), **given)
    first.initialize()
    first.run()
    pack = ["pack", "seg_student", str(run / "model.pt"), str(tmp_path), "--name", "brats"]
    assert main([*pack, "--evaluation", str(evaluated)]) == 0
    (archive,) = tmp_path.glob("brats_v*.zip")
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path)
    names = {path.name for path in (tmp_path / "brats" / "configs").iterdir()}
    assert not [name for name in names if name.startswith("volumes")]
    metadata = json.loads((tmp_path / "brats" / "configs" / "metadata.json").read_text())
    said = json.dumps({name: value for name, value in metadata.items() if name not in ("authors", "copyright")})
    for of_slices in ("T1-weighted", "Figshare", "Cheng", "Lite0", "Transformer"):
        assert of_slices not in said
    assert (
        "tumour core, whole tumour, enhancing tumour on volumes with the channels flair, t1, t1ce, t2"
        in metadata["task"]
    )
    assert metadata["network_data_format"]["inputs"]["image"]["modality"] == "n/a"
    image, pred = (metadata["network_data_format"][end][key] for end, key in (("inputs", "image"), ("outputs", "pred")))
    assert (image["spatial_shape"], image["is_patch_data"], image["num_channels"]) == ([16, 16, 16], True, 4)
    assert list(image["channel_def"].values()) == MODALITIES
    assert (pred["num_channels"], list(pred["channel_def"].values())) == (3, list(REGIONS))
    assert (metadata["eval_metrics"]["volumes"], metadata["eval_metrics"]["patients"]) == (2, 2)
    assert "The weights: BasicUNet, distilled, recipe kd_plus_plus, " in metadata["description"]
    assert "EfficientNet" not in metadata["description"]
    assert "truth" not in " ".join(metadata["eval_metrics"])
    monkeypatch.chdir(tmp_path)
    again = create_workflow(
        config_file="brats/configs/evaluate.json",
        workflow_type="infer",
        output_dir=str(tmp_path / "again"),
        **{name: value for name, value in given.items() if name != "checkpoint"},
    )
    again.run()
    again.finalize()
    for name in ("volumes.csv", "patients.csv"):
        assert (tmp_path / "again" / name).read_text() == (evaluated / name).read_text()
    masks = []
    for folder, files in (
        (tmp_path / "masks", ["brats/configs/inference.json"]),
        (tmp_path / "others", config("seg_student", "inference", "volumes_inference")),
    ):
        more = {} if folder.name == "masks" else {"checkpoint": str(run / "model.pt")}
        workflow = create_workflow(
            **{"config_file": files, "workflow_type": "infer", "device": "cpu", "logging_file": False},
            **{"input": str(dataset / "P0"), "output_dir": str(folder), **more},
        )
        workflow.run()
        workflow.finalize()
        (mask,) = folder.glob("**/*_mask.nii.gz")
        masks.append(np.asarray(nib.load(mask).dataobj))
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize("command", [["label_app"], ["report", "{data}", "--output_dir"]])
def test_programs_for_slices_refuse_it_in_one_line(command, run, dataset, tmp_path, capsys):
    name, *rest = (word.format(data=dataset) for word in command)
    model, out = str(run / "model.pt"), str(tmp_path / "out")
    assert main([name, *rest, out, "--segmentation", model]) == 2
    assert f"{model} is of a network of volumes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_evaluation_is_of_the_voxels_of_the_file(dataset, run, tmp_path, caplog):
    given = {"checkpoint": str(run / "model.pt"), "output_dir": str(tmp_path), "dataset_dir": str(dataset)}
    files = config("seg_student", "evaluate", "volumes_evaluate")
    workflow = Workflow(files, workflow_type="infer", device="cpu", logging_file=False, **given)
    workflow.initialize()
    outputs: list[dict] = []
    workflow.parser.get_parsed_content("evaluator").add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: outputs.extend(engine.state.output)
    )
    with caplog.at_level(logging.WARNING):
        workflow.run()
    assert "SYNTHETIC" in caplog.text
    assert " slices were" not in caplog.text
    with open(tmp_path / "volumes.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["image"] for row in table] == ["P0/flair.nii.gz", "P2/flair.nii.gz"]
    for number, (row, output) in enumerate(zip(table, outputs, strict=True)):
        label = nib.load(dataset / f"P{2 * number}" / "seg.nii.gz").get_fdata()
        each = []
        for place, (name, values) in enumerate(REGIONS.items()):
            truth, found = np.isin(label, values), np.asarray(output["pred"][place]) > 0
            each.append(2 * (truth & found).sum() / (truth.sum() + found.sum()))
            assert float(row[f"dice_{name}"]) == pytest.approx(each[-1], abs=1e-5)
            # Voxels of 1 × 1 × 2 mm.
            assert float(row[f"truth_volume_ml_{name}"]) == pytest.approx(truth.sum() * 2 / 1000)
            if truth.any() and found.any():
                assert float(row[f"hd95_mm_{name}"]) == pytest.approx(farthest(truth, found), abs=1e-3)
        assert float(row["dice"]) == pytest.approx(np.mean(each), abs=1e-5)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["overall"]["volumes"], metrics["overall"]["patients"]) == (2, 2)
    assert metrics["masks"]["whole tumour"]["metrics"]["dice"]["over_volumes"]["mean"] == pytest.approx(
        np.mean([float(row["dice_whole tumour"]) for row in table])
    )
    assert metrics["checkpoint"]["sha256"] == file_sha256(run / "model.pt")
    assert {path.name for path in tmp_path.iterdir()} >= {"patients.csv", "dice.png", "overlays.png"}
    with open(tmp_path / "patients.csv", newline="") as file:
        assert [row["volumes"] for row in csv.DictReader(file)] == ["1", "1"]


def farthest(truth: np.ndarray, found: np.ndarray) -> float:
    """The 95th percentile of the distances between surfaces, by the distances of all pairs of their voxels, in mm."""

    def surface(mask: np.ndarray) -> np.ndarray:
        return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * SPACING

    one, other = surface(truth), surface(found)
    distances = np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1))
    return max(np.percentile(distances.min(0), 95), np.percentile(distances.min(1), 95))


def test_two_evaluations_of_volumes_are_compared(dataset, run, tmp_path, capsys):
    for name, threshold in (("first", 0.5), ("second", 0.2)):
        given = {"checkpoint": str(run / "model.pt"), "output_dir": str(tmp_path / name), "threshold": threshold}
        files = config("seg_student", "evaluate", "volumes_evaluate")
        workflow = Workflow(
            files,
            workflow_type="infer",
            device="cpu",
            logging_file=False,
            part="all",
            dataset_dir=str(dataset),
            **given,
        )
        workflow.initialize()
        workflow.run()
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "first"), str(tmp_path / "second")]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^ +volumes  first", table, re.M)
    found = {line.split("  ")[0]: line for line in table.splitlines()}
    means = []
    for name in ("first", "second"):
        with open(tmp_path / name / "volumes.csv", newline="") as file:
            means.append(np.mean([float(row["dice_tumour core"]) for row in csv.DictReader(file)]))
    number, *cells = found["dice_tumour core"].removeprefix("dice_tumour core").split()
    assert number == "4"
    assert [float(cell) for cell in cells[:3]] == pytest.approx([*means, means[1] - means[0]], abs=0.0006)


def test_evaluation_of_slices_and_of_volumes_are_told_apart(dataset, run, tmp_path):
    def network_input(checkpoint: Path, *files: str) -> None:
        given = {"checkpoint": str(checkpoint), "output_dir": str(tmp_path / "out"), "dataset_dir": str(dataset)}
        workflow = Workflow(config("seg_student", *files), workflow_type="infer", logging_file=False, **given)
        workflow.value("preprocessing")

    with pytest.raises((RuntimeError, ValueError)) as caught:
        network_input(run / "model.pt", "evaluate")
    assert "For a network that was trained on patches of volumes, add the config of volumes" in cause(caught.value)
    slices = segmentation_student(tmp_path)
    with pytest.raises((RuntimeError, ValueError)) as caught:
        network_input(slices, "evaluate", "volumes_evaluate")
    assert "it was trained on slices, not on volumes" in cause(caught.value)


@pytest.mark.parametrize("threshold", [0.3, "expected_dice"])
def test_masks_of_files_named_after_channels(run, threshold, tmp_path):
    """The same patient in a folder of its own, among others, and as one file with all channels: the same masks."""
    image, _ = nested((20, 18, 14), 9)
    (tmp_path / "in" / "own").mkdir(parents=True)
    for name, channel in zip(MODALITIES, image, strict=True):
        stored = nib.Nifti1Image(channel, AFFINE)
        nib.save(stored, tmp_path / "in" / "own" / f"{name}.nii.gz")
        nib.save(stored, tmp_path / "in" / f"case7_{name.upper()}.nii.gz")
    (tmp_path / "in" / "whole").mkdir()
    nib.save(nib.Nifti1Image(np.moveaxis(image, 0, -1), AFFINE), tmp_path / "in" / "whole" / "all.nii.gz")
    given = {"checkpoint": str(run / "model.pt"), "output_dir": str(tmp_path / "out"), "input": str(tmp_path / "in")}
    files = config("seg_student", "inference", "volumes_inference")
    only_weights = {"_target_": "monai_kd.handlers.LoadWeights", "network": "@network", "checkpoint": "@checkpoint"}
    workflow = Workflow(
        files,
        workflow_type="infer",
        device="cpu",
        logging_file=False,
        handlers=[only_weights],
        threshold=threshold,
        **given,
    )
    workflow.initialize()
    outputs: dict[str, dict] = {}
    workflow.parser.get_parsed_content("evaluator").add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: outputs.update({engine.state.batch[0]["file"]: engine.state.output[0]}),
    )
    workflow.run()
    assert sorted(outputs) == ["case7", "own", "whole/all.nii.gz"]
    first = outputs["own"]
    assert first["pred"].shape == first["probability"].shape == (3, 20, 18, 14)
    np.testing.assert_allclose(first["pred"].affine, AFFINE)
    for other in outputs.values():
        assert torch.equal(first["pred"], other["pred"])
    assert 0 < float(first["pred"].float().mean()) < 1


def test_overlays_show_the_regions_on_the_first_channel(run, tmp_path):
    image, _ = nested((20, 20, 14), 9)
    # Unlike the others, half of it is bright.
    image[0, :, :10], image[0, :, 10:] = 1000, 10
    (tmp_path / "in").mkdir()
    for name, channel in zip(MODALITIES, image, strict=True):
        nib.save(nib.Nifti1Image(channel, AFFINE), tmp_path / "in" / f"P_{name}.nii.gz")
    given = {"checkpoint": str(run / "model.pt"), "output_dir": str(tmp_path / "out"), "input": str(tmp_path / "in")}
    files = config("seg_student", "inference", "volumes_inference")
    workflow = Workflow(files, workflow_type="infer", device="cpu", logging_file=False, smallest_extent_mm=0, **given)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    masks = nib.load(tmp_path / "out" / "P_mask.nii.gz").get_fdata()
    assert masks.any()
    picture = np.asarray(Image.open(tmp_path / "out" / "P_overlay.png").convert("RGB"))
    for name, mask in zip(outline_colours(len(REGIONS)), np.moveaxis(masks, 3, 0), strict=True):
        # Above the names of the regions, which have their colours, too.
        outlined = (picture[:-30] == ImageColor.getrgb(name)).all(axis=2).any()
        assert outlined == mask.any()
    # The second axis runs to the back, so that its begin is above; of the slice at the upper left.
    rows_of_first = picture[60:-40, :200].min(axis=2).mean(axis=1)[:300]
    assert rows_of_first[:100].mean() > rows_of_first[-100:].mean() + 150


def test_a_picture_among_volumes_is_a_failed_row(tmp_path):
    """It ended the run, and the volume behind it was not segmented."""
    network = {"_target_": "SegResNet", "in_channels": 1, "out_channels": 1, "init_filters": 8}
    settings = {
        **{"network_def": network, "image_size": [16, 16, 8], "in_channels": 1, "spatial_dims": 3, "mean": None},
        **{"std": None, "multiclass": False, "activation": "sigmoid", "mask_names": ["spleen"], "volumes": CT},
    }
    save_trained(build_network(network).state_dict(), tmp_path / "model.pt", settings)
    (tmp_path / "in").mkdir()
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (20, 20), np.uint8)).save(tmp_path / "in" / "a.png")
    nib.save(nib.Nifti1Image(random.integers(0, 900, (20, 18)).astype(np.int16), AFFINE), tmp_path / "in" / "b.nii.gz")
    nib.save(nib.Nifti1Image(random.integers(0, 900, (20, 18, 9)).astype(np.int16), AFFINE), tmp_path / "in" / "c.nii")
    given = {"checkpoint": str(tmp_path / "model.pt"), "output_dir": str(tmp_path / "out"), "device": "cpu"}
    files = config("seg_student", "inference", "volumes_inference")
    workflow = Workflow(files, workflow_type="infer", logging_file=False, input=str(tmp_path / "in"), **given)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    with (tmp_path / "out" / "findings.csv").open(encoding="utf-8") as file:
        found = {row["file"]: row for row in csv.DictReader(file)}
    assert [found[name]["status"] for name in ("a.png", "b.nii.gz", "c.nii")] == ["failed", "failed", "ok"]
    assert "it is a single slice, and the network is of volumes" in found["a.png"]["reason"]


@pytest.mark.parametrize("names", [["spleen"], ["liver", "spleen"]])
def test_a_series_of_another_modality_and_part_of_the_body(names, tmp_path, caplog):
    """Neither judged as a head, nor called a tumour."""
    network = {"_target_": "SegResNet", "in_channels": 1, "out_channels": len(names), "init_filters": 8}
    torch.manual_seed(0)
    settings = {
        **{"network_def": network, "image_size": [16, 16, 8], "in_channels": 1, "spatial_dims": 3, "mean": None},
        **{"std": None, "multiclass": False, "activation": "sigmoid", "mask_names": names, "volumes": CT},
    }
    save_trained(build_network(network).state_dict(), tmp_path / "model.pt", settings)
    (tmp_path / "in").mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        write_dicom(
            *(tmp_path / "in" / f"{number}.dcm", random.integers(0, 900, (24, 24)).astype(np.int16)),
            position=(0, 0, 3.0 * number),
            **{"Modality": "CT", "BodyPartExamined": "ABDOMEN", "SeriesDescription": "ABDOMEN VEN"},
        )
    given = {"checkpoint": str(tmp_path / "model.pt"), "output_dir": str(tmp_path / "out"), "device": "cpu"}
    files = config("seg_student", "inference", "volumes_inference")
    workflow = Workflow(files, workflow_type="infer", logging_file=False, input=str(tmp_path / "in"), **given)
    workflow.initialize()
    with caplog.at_level(logging.INFO):
        workflow.run()
    workflow.finalize()
    with (tmp_path / "out" / "findings.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["status"], row["warning"]) == ("ok", "")
    assert row["tumour"] == "yes"
    (line,) = (message for message in caplog.messages if message.startswith("[1/1]"))
    assert f": {names[0] if len(names) == 1 else 'regions'}, " in line
    assert "tumour" not in line
    assert "tumour" not in caplog.messages[-1]


CT = {
    **{"modalities": ["CT"], "regions": {"spleen": [1], "liver": [2]}, "orientation": "RAS", "spacing": None},
    "normalization": [{"_target_": "ScaleIntensityRange", "a_min": 0, "a_max": 900, "b_min": -1.0, "b_max": 1.0}],
}


def _one_of_two(rank: int, port: int, dataset: Path, output_dir: Path, given: dict) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    os.environ.update(MASTER_PORT=str(port), CUDA_VISIBLE_DEVICES="")
    trained(dataset, output_dir, "multi_gpu_train", batch_size=1, **given)


def test_two_gloo_processes_train_as_one(dataset, run, tmp_path):
    """Whole volumes for patches, as processes cut other patches; half the batch in each has the losses of one."""
    given = {
        **{"teacher_checkpoint": str(next(run.glob("teacher-*")) / "model.pt"), "image_size": [24, 24, 16]},
        **{"patches": 1, "flip_probability": 0.0, "epochs": 1},
    }
    trained(dataset, tmp_path / "one", batch_size=2, **given)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (port, dataset, tmp_path / "two", given)
    # Not by fork: after an export to ONNX in this process, autograd would refuse.
    mp.start_processes(_one_of_two, arguments, nprocs=2, start_method="spawn")
    for expected, found in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3)
        assert found["val/dice"] == pytest.approx(expected["val/dice"], abs=1e-3)
