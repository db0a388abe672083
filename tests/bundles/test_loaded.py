"""The networks that MONAI's own functions return: the trained ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from monai.bundle import create_workflow, load
from tiny import BUNDLES, NETWORKS, cause, save, untrained

from monai_kd.config import build_network


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Where phantoms would be made."""
    monkeypatch.setenv("MONAI_KD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def bundle_with(name: str, folder: Path) -> Path:
    """A copy of a bundle with the weights of its tiny network, whose widths are those of no preset."""
    shutil.copytree(BUNDLES / name, folder / name, ignore=shutil.ignore_patterns("models"))
    untrained(name, folder / name / "models")
    return folder / name


def assert_same(network: torch.nn.Module, checkpoint: Path) -> None:
    expected = torch.load(checkpoint, weights_only=True)
    found = network.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["train", "inference"])
def test_load_returns_the_trained_network(name, kind, tmp_path, home, monkeypatch):
    bundle = bundle_with(name, tmp_path)
    monkeypatch.chdir(home.parent)
    network = load(name, bundle_dir=tmp_path, workflow_type=kind, device="cpu")
    assert type(network) is type(build_network(NETWORKS[name]))
    assert_same(network, bundle / "models" / "model.pt")
    assert not home.exists()


def test_load_with_our_workflow(tmp_path, home):
    bundle = bundle_with("seg_student", tmp_path)
    network = load("seg_student", bundle_dir=tmp_path, device="cpu", workflow_name="monai_kd.bundle.Workflow")
    assert_same(network, bundle / "models" / "model.pt")
    assert not home.exists()


def test_load_of_another_file_and_another_network(tmp_path, home):
    """``model_file`` has its own settings.json, which may describe any network of MONAI."""
    bundle = bundle_with("seg_student", tmp_path)
    definition = {"_target_": "SegResNet", "spatial_dims": 2, "in_channels": 3, "init_filters": 8}
    state = build_network({**definition, "out_channels": 1}).state_dict()
    other = save(bundle / "runs", state, network_def={**definition, "out_channels": 1}, image_size=32)
    network = load("seg_student", bundle_dir=tmp_path, model_file="runs/model.pt", device="cpu")
    assert type(network).__name__ == "SegResNet"
    assert_same(network, other)


def test_an_argument_that_leaves_the_weights_as_they_are(tmp_path, home):
    bundle = bundle_with("seg_student", tmp_path)
    network = load("seg_student", bundle_dir=tmp_path, device="cpu", net_override={"dropout": 0.25})
    assert {each.p for each in network.modules() if isinstance(each, torch.nn.Dropout)} == {0.25}
    assert_same(network, bundle / "models" / "model.pt")


class TestRefused:
    def refusal(self, folder: Path, **arguments) -> str:
        with pytest.raises((RuntimeError, ValueError)) as caught:
            load("seg_student", bundle_dir=folder, device="cpu", **arguments)
        return cause(caught.value)

    def test_weights_that_do_not_fit_their_settings(self, tmp_path, home):
        bundle = bundle_with("seg_student", tmp_path)
        settings = json.loads((bundle / "models" / "settings.json").read_text())
        settings["network_def"]["features"] = [8, 8, 8, 8, 8, 8]
        (bundle / "models" / "settings.json").write_text(json.dumps(settings))
        assert "does not fit BasicUNet" in self.refusal(tmp_path)

    def test_an_argument_that_changes_the_weights(self, tmp_path, home):
        bundle_with("seg_student", tmp_path)
        assert "does not fit BasicUNet" in self.refusal(tmp_path, net_override={"out_channels": 4})

    def test_other_widths_without_settings(self, tmp_path, home):
        bundle = bundle_with("seg_student", tmp_path)
        (bundle / "models" / "settings.json").unlink()
        assert "does not fit BasicUNet" in self.refusal(tmp_path)

    def test_weights_of_another_task(self, tmp_path, home):
        bundle = bundle_with("seg_student", tmp_path)
        untrained("cls_student", bundle / "models")
        assert "is of a classification" in self.refusal(tmp_path)

    def test_no_checkpoint(self, tmp_path, home, monkeypatch):
        """MONAI asks the model zoo for it; here the zoo has none."""
        bundle = bundle_with("seg_student", tmp_path)
        (bundle / "models" / "model.pt").unlink()
        monkeypatch.setattr("monai.bundle.scripts.download", lambda **arguments: None)
        with pytest.raises(FileNotFoundError, match=r"model\.pt"):
            load("seg_student", bundle_dir=tmp_path, device="cpu")
        assert not home.exists()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("config", ["inference", "evaluate"])
def test_the_network_of_a_workflow_is_the_trained_one(name, config, tmp_path, home, disc_dataset, caplog):
    bundle = bundle_with(name, tmp_path)
    data = {"dataset_dir": str(disc_dataset)} if config == "evaluate" else {"output_dir": str(tmp_path / "out")}
    values = {"workflow_type": "infer", "logging_file": False, "device": "cpu", **data}
    file = str(bundle / "configs" / f"{config}.json")
    assert_same(create_workflow(config_file=file, **values).network_def, bundle / "models" / "model.pt")
    assert "RANDOM" not in caplog.text
    (bundle / "models" / "model.pt").unlink()
    assert isinstance(create_workflow(config_file=file, **values).network_def, torch.nn.Module)
    assert "the weights of the network are RANDOM" in caplog.text
