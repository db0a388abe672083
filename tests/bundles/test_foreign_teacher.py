"""A teacher that no bundle of this package trained: the student's config describes its network, input and outputs."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from documented import run
from monai.networks.nets import UNet
from monai.transforms import LoadImage, NormalizeIntensity
from tiny import BUNDLES, OVERRIDES, TINY_STUDENT, cause, config, untrained

from monai_kd.bundle import Teacher, Workflow
from monai_kd.config import literal
from monai_kd.io.trained import read_settings

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "channels": [4, 8],
    "strides": [2],
}
NORMALIZE = {"_target_": "NormalizeIntensity", "channel_wise": True}
# Of raw values, as of a CT.
WINDOW = {"_target_": "ScaleIntensityRange", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1, "clip": True}
SETTINGS = {"image_size": 64, "in_channels": 1, "normalization": NORMALIZE, "taps": {"d1": "model.0"}}
RUN = {"dataset_dir": None, "fold": 0, "leave_out": []}
OF_MASKS = {"mask_names": ["tumour"], "activation": "sigmoid"}


class OwnNetwork(UNet):
    """Of nobody's package."""


@pytest.fixture
def zoo(tmp_path) -> Path:
    """A bundle in the form of MONAI's model zoo, with random weights."""
    folder = tmp_path / "zoo"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    steps = [
        {"_target_": "LoadImaged", "keys": "image"},
        {**NORMALIZE, "_target_": "NormalizeIntensityd", "keys": "image"},
    ]
    inference = {"network_def": NETWORK, "preprocessing": {"_target_": "Compose", "transforms": steps}}
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    torch.save(
        UNet(**{name: value for name, value in NETWORK.items() if name != "_target_"}).state_dict(), model_of(folder)
    )
    return folder


def model_of(folder: Path) -> Path:
    return folder / "models" / "model.pt"


def teacher_of(zoo: Path, **settings: Any) -> Teacher:
    return Teacher(str(model_of(zoo)), BUNDLES / "seg_teacher", "out", RUN, settings=settings)


def student(zoo: Path, dataset: Path, folder: Path, described: dict[str, Any], **more: Any) -> Workflow:
    (folder / "teacher.json").write_text(json.dumps({"teacher_settings": described}))
    places = {"dataset_dir": dataset, "output_dir": folder / "out", "teacher_checkpoint": model_of(zoo)}
    values = {**OVERRIDES["seg_student"], "recipe": "kd", "epochs": 1, "image_size": 64, "flip_probability": 0, **more}
    values |= {name: literal(str(path)) for name, path in places.items()}
    files = [*config("seg_student", "train"), str(folder / "teacher.json")]
    return Workflow(files, workflow_type="train", **values)


def test_it_teaches_and_gets_its_own_input(zoo, disc_dataset, tmp_path, monkeypatch, caplog):
    # The network as it stands in the config of the bundle.
    described = {**SETTINGS, **OF_MASKS, "network_def": f"%{zoo}/configs/inference.json::network_def"}
    seen = []
    forward = UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, x: seen.append(x.clone()) or forward(self, x))
    workflow = student(zoo, disc_dataset, tmp_path, described, batch_size=1, in_channels=3)
    workflow.initialize()
    workflow.run()
    given = [image[0] for image in seen if len(image) == 1]  # the rehearsal has two
    entries = workflow.value("train#dataset#data")
    own = [NormalizeIntensity(channel_wise=True)(LoadImage()(entry["image"])[None, ..., 0]) for entry in entries]
    assert len(given) == len(own)
    for image in own:
        # The order of an epoch is random. Of the file, x is the column, and so it is of the network's image.
        assert min(float((image.as_tensor() - each).abs().max()) for each in given) < 1e-3
    kept = read_settings(tmp_path / "out" / "settings.json")["teacher"]
    assert (kept["network_def"], kept["normalization"], kept["image_size"]) == (NETWORK, NORMALIZE, 64)
    assert "NOT checked" not in caplog.text
    workflow.finalize()


class OfProbabilities(OwnNetwork):
    """Which no last step shows."""

    def forward(self, x):
        return super().forward(x).sigmoid().clamp(1e-6, 1 - 1e-6)


@pytest.mark.parametrize("probabilities", [True, False])
def test_outputs_that_look_like_probabilities_are_said(probabilities, zoo, disc_dataset, tmp_path, caplog):
    own = {**NETWORK, "_target_": f"{__name__}.{(OfProbabilities if probabilities else OwnNetwork).__name__}"}
    workflow = student(zoo, disc_dataset, tmp_path, {**SETTINGS, **OF_MASKS, "network_def": own})
    workflow.initialize()
    workflow.value("distiller")
    assert ("lie between 0 and 1, as PROBABILITIES do" in caplog.text) == probabilities
    workflow.finalize()


def test_the_lines_of_the_page(lines, zoo, disc_dataset, tmp_path, monkeypatch):
    (line,) = lines
    page = (BUNDLES.parent / "docs" / "training.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^    \{\n(?:    .*\n)+?    \}\n", page[page.index('"teacher_settings": {') - 40 :], re.M)[
        :1
    ]
    (tmp_path / "teacher.json").write_text(block)
    (tmp_path / "bundles").symlink_to(BUNDLES)
    (tmp_path / "DATA").symlink_to(disc_dataset)
    zoo.rename(tmp_path / "ZOO")
    run(line, tmp_path, monkeypatch, **{**TINY_STUDENT, "teacher_overrides": {}, "epochs": 1})
    teacher = read_settings(tmp_path / "runs" / "student" / "settings.json")["teacher"]
    assert (teacher["network_def"], teacher["normalization"]["nonzero"]) == (NETWORK, True)


def test_features_of_its_taps(zoo, disc_dataset, tmp_path):
    described = {**SETTINGS, **OF_MASKS, "network_def": NETWORK, "taps": {f"d{n}": "model.0" for n in (1, 2, 3, 4)}}
    workflow = student(zoo, disc_dataset, tmp_path, described, recipe="kd_plus_plus")
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    assert (tmp_path / "out" / "model.pt").is_file()


def test_constants_in_place_of_a_transform(zoo):
    teacher = teacher_of(zoo, **{**SETTINGS, **OF_MASKS, "network_def": NETWORK, "normalization": NORMALIZE})
    assert (teacher.trained["mean"], teacher.trained["std"]) == (None, None)
    described = {name: value for name, value in SETTINGS.items() if name != "normalization"}
    teacher = teacher_of(zoo, **described, network_def=NETWORK, mean=[0.1], std=[0.2])
    assert (teacher.trained["mean"], teacher.trained["std"]) == ([0.1], [0.2])
    assert "normalization" not in teacher.trained
    assert isinstance(teacher.load(), UNet)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"in_channels": 3},
            "64 × 64 with 3 channels, of teacher_settings#in_channels; its image_size is 64, of teacher_set",
        ),
        (
            {"normalization": {**NORMALIZE, "_target_": "NormalizeIntensityd", "keys": "image"}},
            "teacher_settings#normalization: NormalizeIntensityd fails on an image as a tensor (1, 8, 8)",
        ),
    ],
)
def test_what_does_not_fit_its_images_is_named(changed, said, zoo, disc_dataset, tmp_path):
    described = {**SETTINGS, **OF_MASKS, "network_def": NETWORK, **changed}

    def training() -> None:
        workflow = student(zoo, disc_dataset, tmp_path, described, batch_size=1, in_channels=3)
        workflow.initialize()
        workflow.run()

    with pytest.raises(RuntimeError) as caught:
        training()
    assert not (tmp_path / "out" / "model.pt").exists()
    assert said in cause(caught.value)


# A network of instance normalisation with one pixel at its lowest level, and one that is left with half pixels.
TOO_DEEP = {**NETWORK, "channels": [4, 4, 4, 4, 4, 4], "strides": [2, 2, 2, 2, 2]}


@pytest.mark.parametrize(
    ("network", "size", "said"),
    [
        (TOO_DEEP, 32, "more than 1 spatial element"),
        ({**NETWORK, "channels": [4, 8, 8], "strides": [2, 2]}, 34, "must match"),
    ],
)
def test_a_size_that_the_teacher_does_not_take(network, size, said, zoo, disc_dataset, tmp_path):
    described = {**SETTINGS, **OF_MASKS, "network_def": network, "image_size": size}
    with pytest.raises(ValueError) as caught:
        student(zoo, disc_dataset, tmp_path, described).value("distillation").distiller  # noqa: B018
    error = cause(caught.value)
    assert f"the teacher, UNet, fails on an image of {size} × {size} with 1 channel" in error
    assert f"its image_size is {size}, of teacher_settings#image_size: " in error
    assert said in error
    assert "It may be that this network takes multiples of 2ⁿ only" in error


class Failing(UNet):
    def forward(self, x):
        raise RuntimeError("the weights are not there.")


def test_of_other_errors_no_size_is_blamed(zoo, disc_dataset, tmp_path):
    described = {**SETTINGS, **OF_MASKS, "network_def": {**NETWORK, "_target_": f"{__name__}.Failing"}}
    with pytest.raises(ValueError) as caught:
        student(zoo, disc_dataset, tmp_path, described).value("distillation").distiller  # noqa: B018
    assert cause(caught.value).endswith("teacher_settings#image_size: the weights are not there.")


def test_torchscript_teaches_by_its_outputs(zoo, disc_dataset, tmp_path):
    network = UNet(**{name: value for name, value in NETWORK.items() if name != "_target_"}).eval()
    torch.jit.script(network).save(file := tmp_path / "teacher.ts")
    torch.save(network.state_dict(), model_of(zoo))
    described = {
        **SETTINGS,
        **OF_MASKS,
        "network_def": {"_target_": "torch.jit.load", "f": str(file)},
    }
    workflow = student(zoo, disc_dataset, tmp_path, described)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    assert (tmp_path / "out" / "model.pt").is_file()
    with pytest.raises(ValueError, match="the teacher is TorchScript, whose modules can't be tapped"):
        teacher_of(zoo, **described).taps(teacher_of(zoo, **described).untrained(), ["d1"])


def test_outputs_that_are_not_described_are_not_checked_and_it_is_said(zoo, caplog):
    with caplog.at_level(logging.WARNING):
        assert "mask_names" not in teacher_of(zoo, network_def=NETWORK, **SETTINGS).trained
    assert "mean the same as those of the student is NOT checked" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network_def": NETWORK}, "lacks image_size, in_channels, mean, std"),
        ({"normalization": NORMALIZE}, "lacks network_def, image_size, in_channels, which no settings.json"),
        (
            {"network_def": NETWORK, **SETTINGS, "mask_names": ["tumour"]},
            "teacher_settings has mask_names and no activation",
        ),
        ({"network": NETWORK}, "teacher_settings has network; a teacher is described by network_def"),
        ({"network_def": NETWORK, **SETTINGS, "in_channels": "1"}, "teacher_settings#in_channels is '1'"),
        ({"network_def": NETWORK, **SETTINGS, "std": [0.0]}, "teacher_settings#std is [0.0]"),
        (
            {"network_def": NETWORK, **SETTINGS, "normalization": {"_target_": "Nothing"}},
            "#normalization, Nothing, can't",
        ),
        ({"network_def": NETWORK, **SETTINGS, "normalization": "z"}, "must be a component with '_target_', got 'z'"),
        ({"network_def": NETWORK, **SETTINGS, "normalization": {"_target_": "builtins.dict"}}, "is no transform"),
        (
            {"network_def": NETWORK, **SETTINGS, "normalization": WINDOW},
            "#normalization makes values from 0.2579 to 0.2624 of an image from 0 to 1, which is what it gets",
        ),
    ],
)
def test_what_is_missing_or_wrong(zoo, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        teacher_of(zoo, **settings).trained  # noqa: B018


def test_without_a_description(zoo, disc_dataset, tmp_path):
    workflow = student(zoo, disc_dataset, tmp_path, {})
    with pytest.raises(RuntimeError) as caught:
        workflow.initialize()
    assert "a teacher that was trained elsewhere is described by teacher_settings" in cause(caught.value)


def test_without_weights():
    teacher = Teacher(None, BUNDLES / "seg_teacher", "out", RUN, settings={"network_def": NETWORK})
    with pytest.raises(ValueError, match="teacher_settings describes the weights of a teacher_checkpoint"):
        teacher.trained  # noqa: B018


def test_a_network_of_ones_own_that_was_trained_here(tmp_path):
    own = {**NETWORK, "_target_": f"{__name__}.OwnNetwork", "in_channels": 3}
    checkpoint = untrained("seg_student", tmp_path)
    torch.save(
        OwnNetwork(**{name: value for name, value in own.items() if name != "_target_"}).state_dict(), checkpoint
    )
    settings = json.loads((tmp_path / "settings.json").read_text())
    del settings["weights_sha256"]
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "network_def": own}))
    with pytest.raises(ValueError, match="name its module in the environment variable"):
        Teacher(str(checkpoint), BUNDLES / "seg_teacher", "out", RUN).load()
    teacher = Teacher(str(checkpoint), BUNDLES / "seg_teacher", "out", RUN, settings={"network_def": own})
    assert isinstance(teacher.load(), OwnNetwork)
    assert teacher.trained["image_size"] == settings["image_size"]
