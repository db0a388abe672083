"""Networks of a module of one's own, which files may name once the environment does."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from documented import run, text_and_code
from students import classification_student
from tiny import BUNDLES, TINY_STUDENT, settings_of, untrained

from monai_kd.__main__ import main
from monai_kd.bundle import trained_network, trained_settings
from monai_kd.config import UntrustedNetwork, build_network
from monai_kd.inference import BundlePredictor

VARIABLE = "MONAI_KD_NETWORKS"
PAGE = BUNDLES.parent / "docs" / "training.md"
MODULE = """
from pathlib import Path

from monai.networks.nets import BasicUNet
from monai.networks.nets import Transchex as Renamed
from torch import nn
from torch.nn import Conv2d


class Small(nn.Conv2d):
    pass


class Weighted(nn.Conv2d):
    def __init__(self, encoder_weights="imagenet", pretrained=True):
        assert not encoder_weights and not pretrained, "asks for weights"
        super().__init__(3, 1, 1)


class Holds(nn.Sequential):
    def __init__(self, inner):
        super().__init__(inner)


def built(width=1) -> nn.Module:
    return nn.Conv2d(3, width, 1)


def touch(path):
    Path(path).touch()


class NoNetwork:
    pass
"""
SMALL = {"_target_": "mine.Small", "in_channels": 3, "out_channels": 1, "kernel_size": 1}


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """A folder of Python's path with the module `mine` and the package `ours`."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "__init__.py").write_text("from .nets import offered\n")
    (tmp_path / "ours" / "nets.py").write_text(
        f"{MODULE}\n\ndef offered() -> nn.Module:\n    return built(2)\n"
        "\n\ndef _hidden() -> nn.Module:\n    return built(3)\n"
    )
    for name in ("alone", "__main__"):
        (tmp_path / "ours" / f"{name}.py").write_text(f"from pathlib import Path\n\nPath('ran').touch()\n{MODULE}")
    (tmp_path / "broken.py").write_text("import no_such_package_of_anybody\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in ("mine", "ours", "ours.nets", "ours.alone", "my_networks"):
        sys.modules.pop(name, None)


def test_a_file_may_not_name_them_before(mine, monkeypatch):
    with pytest.raises(UntrustedNetwork, match=f"name its module in the environment variable {VARIABLE}"):
        build_network(SMALL, trusted=False)
    # Of a module that is not trusted, nothing is even imported.
    assert "mine" not in sys.modules
    monkeypatch.setenv(VARIABLE, "min, ours.nets")
    with pytest.raises(UntrustedNetwork, match=r"monai_kd\.networks or min or ours\.nets with plain arguments"):
        build_network(SMALL, trusted=False)


@pytest.mark.parametrize(
    ("named", "target"),
    [
        ("mine", "mine.Small"),
        ("mine", "mine.Weighted"),
        ("mine", "mine.built"),
        ("other, mine ,", "mine.Small"),
        ("ours", "ours.nets.Small"),
        ("ours", "ours.nets.offered"),
        ("ours.nets", "ours.nets.built"),
        ("ours.alone", "ours.alone.Small"),
        ("ours,ours.nets", "ours.nets.built"),
        ("torchvision.models", "torchvision.models.resnet18"),
        # What a module of one's own has from MONAI is MONAI's.
        ("mine", "mine.BasicUNet"),
    ],
)
def test_networks_that_a_file_may_name(mine, monkeypatch, named, target):
    monkeypatch.setenv(VARIABLE, named)
    arguments = {name: value for name, value in SMALL.items() if name != "_target_"} if "Small" in target else {}
    assert isinstance(build_network({"_target_": target, **arguments}, trusted=False), torch.nn.Module)


@pytest.mark.parametrize(
    ("named", "target"),
    [
        ("mine", "mine.NoNetwork"),
        ("mine", "mine.Path"),
        ("mine", "mine.Conv2d"),
        ("mine", "mine.Path.touch"),
        ("ours", "ours.nets._hidden"),
        # Defined within the package, but not what it offers.
        ("ours", "ours.nets.built"),
        ("mine", "mine2.Small"),
        # It does not say that it returns a network.
        ("mine", "mine.touch"),
        # Nothing imports them.
        ("ours", "ours.alone.Small"),
        ("ours", "ours.__main__.Small"),
        ("ours", "ours.nowhere.Small"),
        # Under another name, what fetches a file whatever its arguments are.
        ("ours", "ours.nets.Renamed"),
        ("mine.Small", "mine.Small"),
        ("", "mine.Small"),
    ],
)
def test_what_it_may_not_name(mine, monkeypatch, named, target):
    monkeypatch.setenv(VARIABLE, named)
    with pytest.raises((UntrustedNetwork, ValueError), match=r"because a file names it|can't be imported"):
        build_network({"_target_": target, **({"path": "ran"} if target.endswith("touch") else {})}, trusted=False)
    assert not (mine / "ran").exists()


@pytest.mark.parametrize("target", ["resnet18", "segmentation.fcn_resnet50", "detection.fcos_resnet50_fpn"])
def test_backbones_of_torchvision_are_not_fetched(mine, monkeypatch, target):
    def fetch(*args, **kwargs):
        pytest.fail("asks the internet for weights")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    monkeypatch.setenv(VARIABLE, f"torchvision.models.{target}".rpartition(".")[0])
    assert isinstance(build_network({"_target_": f"torchvision.models.{target}"}, trusted=False), torch.nn.Module)


def test_components_in_their_arguments_are_networks_too(mine, monkeypatch):
    monkeypatch.setenv(VARIABLE, "mine")
    assert isinstance(build_network({"_target_": "mine.Holds", "inner": SMALL}, trusted=False)[0], torch.nn.Conv2d)
    with pytest.raises(UntrustedNetwork, match=r"pathlib\.Path\.touch is no network"):
        build_network({"_target_": "mine.Holds", "inner": {"_target_": "pathlib.Path.touch"}}, trusted=False)


@pytest.mark.parametrize(
    ("named", "target", "expected"),
    [
        ("broken", "broken.Net", r"broken\.Net, whose module MONAI_KD_NETWORKS names, can't be imported: No module"),
        ("nowhere", "nowhere.Net", "add its folder to PYTHONPATH"),
        ("mine", "mine.Nothing", "has no attribute 'Nothing'"),
        (
            "ours",
            "ours.alone.Small",
            "ours does not import ours.alone, and a file may have no module imported: name it",
        ),
        ("mine;ours", "mine.Small", "names 'mine;ours', which is no module: give dotted paths, separated by commas"),
        ("mine.", "mine.Small", "names 'mine.', which is no module"),
    ],
)
def test_what_is_wrong_is_said(mine, monkeypatch, named, target, expected):
    monkeypatch.setenv(VARIABLE, named)
    with pytest.raises(ValueError, match=expected):
        build_network({"_target_": target}, trusted=False)


def test_every_command_takes_such_a_checkpoint(mine, monkeypatch, capsys):
    monkeypatch.setenv(VARIABLE, "mine")
    first, second = (untrained("seg_student", mine / str(draw), draw, network_def=SMALL) for draw in (0, 1))
    classes = classification_student(mine / "classes")
    both = str(mine / "both" / "model.pt")
    commands = [
        ["ensemble", str(first), str(second), str(mine / "both")],
        ["export", "seg_student", both, str(mine / "package")],
        ["pack", "seg_student", both, str(mine / "packed")],
        ["label_app", str(mine / "app"), "--segmentation", both, "--classification", str(classes)],
    ]
    for command in commands:
        assert main(command) == 0, capsys.readouterr().err
    kept = trained_settings(mine / "app" / "model" / "seg_student" / "models" / "model.pt")
    assert [each["_target_"] for each in kept["network_def"]["networks"]] == ["mine.Small", "mine.Small"]
    assert isinstance(BundlePredictor(BUNDLES / "seg_student", Path(both), device="cpu").mask_names, list | tuple)
    monkeypatch.delenv(VARIABLE)
    for command in commands[1:]:
        again = [
            f"{word}_again" if word in map(str, (mine / "package", mine / "packed", mine / "app")) else word
            for word in command
        ]
        assert main(again) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert f"variable {VARIABLE}" in error


def test_the_lines_of_the_page(lines, mine, disc_dataset, tmp_path, monkeypatch):
    blocks = [re.sub(r"^    ", "", block, flags=re.M) for block in text_and_code(PAGE)[1]]
    (module,) = (block for block in blocks if "class TwoLayers" in block)
    (student,) = (block for block in blocks if "my_networks.TwoLayers" in block)
    (tmp_path / "my_networks.py").write_text(module)
    (tmp_path / "student.json").write_text(student)
    (tmp_path / "bundles").symlink_to(BUNDLES)
    (tmp_path / "DATA").symlink_to(disc_dataset)
    untrained("seg_teacher", tmp_path / "runs" / "teacher", dataset_dir=str(disc_dataset), fold=0)
    variable, training, evaluation, export = lines
    monkeypatch.setenv(*variable.removeprefix("export ").split("="))
    run(training, tmp_path, monkeypatch, **{**TINY_STUDENT, "teacher_overrides": {}, "epochs": 1})
    own = tmp_path / "runs" / "own"
    assert settings_of(own)["network_def"]["_target_"] == "my_networks.TwoLayers"
    network = trained_network(trained_settings(own / "model.pt"), own / "model.pt")
    assert network.outer.in_channels == 16
    run(evaluation, tmp_path, monkeypatch, device="cpu", amp=False)
    metrics = json.loads((own / "evaluation" / "metrics.json").read_text())
    assert 0 <= metrics["overall"]["metrics"]["dice"]["over_slices"]["mean"] <= 1
    run(export, tmp_path, monkeypatch)
    assert (tmp_path / "own_package" / "predict.py").is_file()
