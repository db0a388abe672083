"""Half precision is the default where it is quicker, and of inference where it was measured to cost next to nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import create_workflow
from tiny import BUNDLES, CLASSIFICATION, SEGMENTATION, config, untrained

from monai_kd.__main__ import main
from monai_kd.bundle import amp_by_default, amp_in_training, trained_settings
from monai_kd.engines import autocast_pays
from monai_kd.io.checksum import file_sha256
from monai_kd.io.table import read_table

ALL = [*SEGMENTATION, *CLASSIFICATION]


@pytest.fixture
def quick(monkeypatch):
    """A processor with instructions for bfloat16."""
    monkeypatch.setattr("monai_kd.bundle.precision.autocast_pays", lambda device: str(device) == "cpu")


def evaluated(bundle: str, dataset: Path, checkpoint: Path, folder: Path, **values) -> Path:
    given = {"dataset_dir": str(dataset), "checkpoint": str(checkpoint), "output_dir": str(folder), "device": "cpu"}
    workflow = create_workflow(config_file=config(bundle, "evaluate"), logging_file=False, **given, **values)
    workflow.run()
    workflow.finalize()
    return folder


def metrics(folder: Path, checkpoint: Path, amp: bool, dice: dict[str, float | None], **more) -> Path:
    """A folder as `evaluate.json` writes it, with the mean Dice of each group."""
    groups = {name: {"metrics": {"dice": {"over_slices": {"mean": mean}}}} for name, mean in dice.items()}
    content = {
        "settings": {"amp": amp, "threshold": 0.5, **more},
        "dataset": {"name": "numbers", "datalist_sha256": "0", "fold": 3, "leave_out": []},
        "notes": ["all of them were TRAINED ON"],
        "checkpoint": {"path": str(checkpoint), "sha256": file_sha256(checkpoint)},
        "overall": groups.pop("all"),
        "classes": groups,
    }
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def record(checkpoint: Path, **lost: float) -> None:
    file = checkpoint.with_name("settings.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "half_precision": {"metric": "Dice", "lost": lost}}))


def test_the_processor_is_asked():
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").is_file() else None
    if flags is None:
        pytest.skip("needs /proc/cpuinfo")
    assert autocast_pays("cpu") is ("avx512_bf16" in flags or "amx_bf16" in flags)
    assert autocast_pays(torch.device("cuda", 1)) is False


def test_what_is_lost_is_the_difference_of_the_means(tmp_path, capsys):
    checkpoint = untrained("seg_student", tmp_path)
    one = metrics(tmp_path / "32", checkpoint, False, {"all": 0.75, "glioma": 0.5, "pituitary": None})
    two = metrics(tmp_path / "16", checkpoint, True, {"all": 0.7490, "glioma": 0.503, "pituitary": None})
    before = json.loads((tmp_path / "settings.json").read_text())
    assert main(["precision", str(one), str(two)]) == 0
    said = capsys.readouterr().out
    assert "all: Dice 0.0010 lower in half precision" in said
    assert "glioma: Dice 0.0030 higher in half precision" in said
    assert f"added to {tmp_path / 'settings.json'}. Inference uses half precision by default where the" in said
    after = json.loads((tmp_path / "settings.json").read_text())
    measured = after.pop("half_precision")
    assert after == before
    assert measured["lost"] == {"all": pytest.approx(0.001), "glioma": pytest.approx(-0.003)}
    assert trained_settings(checkpoint)["half_precision"] == measured
    assert measured["measured_on"] == "numbers, fold 3 (counted from 0)"
    assert measured["notes"] == ["all of them were TRAINED ON"]


def test_of_a_copy_of_the_weights(tmp_path):
    checkpoint = untrained("seg_student", tmp_path)
    (tmp_path / "copy").mkdir()
    copy = untrained("seg_student", tmp_path / "copy")
    one, two = (metrics(tmp_path / str(amp), checkpoint, amp, {"all": 0.5}) for amp in (False, True))
    checkpoint.unlink()
    assert main(["precision", str(one), str(two), "--checkpoint", str(copy)]) == 0
    assert trained_settings(copy)["half_precision"]["lost"] == {"all": 0.0}


def _swapped(one: Path, two: Path, checkpoint: Path) -> list[Path]:
    return [two, one]


def _other_weights(one: Path, two: Path, checkpoint: Path) -> list[Path]:
    (one.parent / "other").mkdir()
    other = untrained("seg_student", one.parent / "other", draw=1)
    return [one, metrics(one.parent / "third", other, True, {"all": 0.5})]


def _other_threshold(one: Path, two: Path, checkpoint: Path) -> list[Path]:
    return [one, metrics(one.parent / "third", checkpoint, True, {"all": 0.5}, threshold=0.4)]


def _no_folder(one: Path, two: Path, checkpoint: Path) -> list[Path]:
    return [one, one.parent / "nowhere"]


def _no_evaluation(one: Path, two: Path, checkpoint: Path) -> list[Path]:
    (two / "metrics.json").write_text("[]")
    return [one, two]


def _no_tumour(one: Path, two: Path, checkpoint: Path) -> list[Path]:
    return [metrics(one.parent / str(amp), checkpoint, amp, {"all": None}) for amp in (False, True)]


def _changed_weights(one: Path, two: Path, checkpoint: Path) -> list[Path]:
    checkpoint.write_bytes(checkpoint.read_bytes() + b" ")
    return [one, two]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_swapped, "was evaluated with --amp True, and in its place one with --amp False is needed: give first"),
        (_other_weights, "are of different weights"),
        (_other_threshold, "also differ in threshold"),
        (_no_folder, "nowhere/metrics.json: give a folder that evaluate.json wrote"),
        (_no_evaluation, "was not written by an evaluation"),
        (_no_tumour, "no slice has a tumour"),
        (_changed_weights, "belongs to other weights"),
    ],
)
def test_what_can_not_be_compared_is_one_error_and_changes_nothing(tmp_path, capsys, given, message):
    checkpoint = untrained("seg_student", tmp_path)
    one, two = (metrics(tmp_path / name, checkpoint, amp, {"all": 0.5}) for name, amp in (("32", False), ("16", True)))
    folders = given(one, two, checkpoint)
    before = (tmp_path / "settings.json").read_bytes()
    assert main(["precision", *map(str, folders)]) == 2
    said = capsys.readouterr()
    assert message in " ".join(said.err.split())
    assert said.err.startswith("error: ")
    assert said.out == ""
    assert (tmp_path / "settings.json").read_bytes() == before


@pytest.mark.parametrize("value", [3, {}, {"metric": "Dice", "lost": {}}, {"metric": "Dice", "lost": {"all": "0"}}])
def test_a_damaged_record_is_refused(tmp_path, value):
    checkpoint = untrained("seg_student", tmp_path, half_precision=value)
    with pytest.raises(ValueError, match=r"half_precision is .* which is not a valid value"):
        trained_settings(checkpoint)


@pytest.mark.parametrize(
    ("lost", "device", "expected"),
    [
        ({"all": 0.001, "glioma": 0.005}, "cpu", True),
        ({"all": -0.2}, "cpu", True),
        ({"all": 0.001, "glioma": 0.0051}, "cpu", False),
        ({"all": 0.0}, "cuda", False),
        (None, "cpu", False),
    ],
)
def test_default(quick, lost, device, expected):
    measured = None if lost is None else {"metric": "Dice", "lost": lost}
    assert amp_by_default({"half_precision": measured}, device) is expected


@pytest.fixture
def slow(monkeypatch):
    """A processor without instructions for bfloat16."""
    monkeypatch.setattr("monai_kd.bundle.precision.autocast_pays", lambda device: False)


@pytest.mark.parametrize(("processor", "on_a_cpu"), [("quick", True), ("slow", False)])
def test_trainings_use_it_on_gpus_and_where_the_processor_has_it(processor, on_a_cpu, request, caplog):
    request.getfixturevalue(processor)
    with caplog.at_level("INFO"):
        assert amp_in_training("cuda:1") is True
        assert not caplog.records
        assert amp_in_training(torch.device("cpu")) is on_a_cpu
    assert ("no instructions for bfloat16" in caplog.text) is not on_a_cpu


@pytest.mark.parametrize("bundle", ALL)
def test_all_trainings_follow_the_processor_unless_they_are_told(bundle, slow, disc_dataset, class_dataset, tmp_path):
    dataset = disc_dataset if bundle in SEGMENTATION else class_dataset

    def amp(**values) -> tuple[bool, bool, bool]:
        places = {"dataset_dir": str(dataset), "output_dir": str(tmp_path), "device": "cpu"}
        workflow = create_workflow(config_file=config(bundle, "train"), logging_file=False, **places, **values)
        parser = workflow.parser
        validation = parser.get_parsed_content("validate#inferer").amp
        return parser.get_parsed_content("amp"), validation, parser.get_parsed_content("settings")["amp"]

    assert amp() == (False,) * 3
    assert amp(amp=True) == (True,) * 3


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("bundle", ALL)
def test_inference_of_all_bundles_follows_it_unless_it_is_told(bundle, tmp_path, caplog):
    checkpoint = untrained(bundle, tmp_path)

    def amp(**values) -> tuple[bool, bool]:
        workflow = create_workflow(
            config_file=config(bundle, "inference"),
            logging_file=False,
            checkpoint=str(checkpoint),
            device="cpu",
            **values,
        )
        found = workflow.parser.get_parsed_content("amp")
        return found, workflow.parser.get_parsed_content("inferer").amp

    assert amp() == (False, False)
    record(checkpoint, all=0.0004)
    with caplog.at_level("INFO"):
        assert amp() == (True, True)
    assert "lose 0.0004 of the Dice at most" in caplog.text
    assert amp(amp=False) == (False, False)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("bundle", ["seg_student", "cls_student"])
def test_from_two_evaluations_to_inference(bundle, disc_dataset, class_dataset, tmp_path, capsys):
    dataset = disc_dataset if bundle == "seg_student" else class_dataset
    checkpoint = untrained(bundle, tmp_path)
    folders = [
        evaluated(bundle, dataset, checkpoint, tmp_path / str(amp), amp=amp, bootstrap=0) for amp in (False, True)
    ]
    assert main(["precision", *map(str, folders)]) == 0
    # From the tables, which are rounded otherwise than the summary.
    name = "dice" if bundle == "seg_student" else "correct"
    means = []
    for folder in folders:
        column = [row[name] for row in read_table(folder / "slices.csv")]
        means.append(np.mean([each == "True" if name == "correct" else float(each) for each in column]))
    assert trained_settings(checkpoint)["half_precision"]["lost"]["all"] == pytest.approx(means[0] - means[1], abs=1e-6)


def test_networks_of_the_repository_are_measured():
    for bundle in ("seg_student", "cls_student"):
        lost = trained_settings(BUNDLES / bundle / "models" / "model.pt")["half_precision"]["lost"]
        assert max(map(abs, lost.values())) < 0.02
