"""A described network of more masks or classes than the data set is evaluated by those that both have."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import create_workflow
from tiny import NAMES, NETWORKS, cause, config
from torch import nn

from monai_kd.config import build_network

CHANNELS = {"liver": 0.0, "tumour": 1.0, "vessel": 0.0}
IMAGE = {"image_size": 64, "in_channels": 1, "mean": [0.0], "std": [1.0]}


def weights(folder: Path, names: list[str], softmax: bool) -> tuple[Path, dict[str, Any]]:
    """A network that marks what is brighter than half as "tumour", in equal parts where the name is there twice."""
    wanted = [int(name == "tumour") for name in names]
    network = nn.Conv2d(1, len(names) + softmax, 1)
    values = torch.tensor([0] * softmax + wanted).float()
    with torch.no_grad():
        network.weight[:] = 100 * values[:, None, None, None]
        network.bias[:] = torch.where(values > 0, -50.0, -100.0 if not softmax else 0.0)
        network.bias[0] = 0.0 if softmax else network.bias[0]
        if softmax:
            network.bias[torch.where(values == 0)[0][1:]] = -100.0
    torch.save(network.state_dict(), folder / "foreign.pt")
    definition = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": len(names) + softmax}
    return folder / "foreign.pt", {**definition, "kernel_size": 1}


def evaluate(bundle: str, dataset: Path, folder: Path, checkpoint: Path, described: dict[str, Any]) -> list[dict]:
    (folder / "described.json").write_text(json.dumps({"teacher_settings": described}))
    values = {"dataset_dir": str(dataset), "checkpoint": str(checkpoint), "output_dir": str(folder / "out")}
    files = [*config(bundle, "evaluate"), str(folder / "described.json")]
    more = {"part": "all", "bootstrap": 20, "logging_file": False}
    workflow = create_workflow(config_file=files, workflow_type="infer", device="cpu", **more, **values)
    workflow.run()
    workflow.finalize()
    with (folder / "out" / "slices.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def dice_of(disc_dataset: Path, folder: Path, names: list[str], activation: str) -> list[float]:
    folder.mkdir()
    checkpoint, definition = weights(folder, names, activation == "softmax")
    described = {"network_def": definition, **IMAGE, "mask_names": names, "activation": activation}
    return [float(row["dice"]) for row in evaluate("seg_student", disc_dataset, folder, checkpoint, described)]


def test_the_tumour_of_several_masks_is_that_of_a_network_of_one(disc_dataset, tmp_path):
    alone = dice_of(disc_dataset, tmp_path / "one", ["tumour"], "sigmoid")
    assert sum(alone) / len(alone) > 0.9
    cases = [
        (["liver", "tumour", "vessel"], "sigmoid"),
        (["liver", "tumour", "vessel"], "softmax"),
        (["tumour", "liver", "tumour"], "softmax"),
        (["tumour"], "softmax"),
    ]
    for number, (names, activation) in enumerate(cases):
        found = dice_of(disc_dataset, tmp_path / str(number), names, activation)
        # Two parts of a half each, or a half of two, are both at the threshold of single pixels.
        assert found == pytest.approx(alone, abs=0.05), (names, activation)


def test_torchscript_of_several_masks(disc_dataset, tmp_path):
    names = ["liver", "tumour"]
    checkpoint, definition = weights(tmp_path, names, softmax=True)
    network = nn.Conv2d(1, 3, 1)
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    torch.jit.trace(network, torch.zeros(1, 1, 64, 64)).save(tmp_path / "teacher.ts")
    script = {"_target_": "torch.jit.load", "f": str(tmp_path / "teacher.ts")}
    rows = []
    for number, each in enumerate((definition, script)):
        (folder := tmp_path / str(number)).mkdir()
        described = {"network_def": each, **IMAGE, "mask_names": names, "activation": "softmax"}
        rows.append(evaluate("seg_student", disc_dataset, folder, checkpoint, described))
    assert [row["dice"] for row in rows[0]] == [row["dice"] for row in rows[1]]


def test_masks_of_other_names_are_refused(disc_dataset, tmp_path):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        dice_of(disc_dataset, tmp_path / "other", ["liver", "spleen"], "softmax")
    said = cause(caught.value)
    assert f"of liver, spleen (softmax), none is 'tumour', and they are not the classes of {disc_dataset}" in said
    assert not (tmp_path / "other" / "out").exists()


def test_classes_of_the_data_set_in_any_order(disc_dataset, tmp_path):
    names = ["metastasis", *NAMES[::-1]]
    definition = {**NETWORKS["cls_student"], "num_classes": 4}
    network = build_network(definition).eval()
    torch.save(network.state_dict(), tmp_path / "foreign.pt")
    described = {"network_def": definition, "image_size": 64, "in_channels": 3, "mean": [0.3] * 3, "std": [0.2] * 3}
    rows = evaluate("cls_student", disc_dataset, tmp_path, tmp_path / "foreign.pt", {**described, "class_names": names})
    for row in rows:
        found = torch.tensor([float(row[f"p_{name}"]) for name in NAMES])
        assert float(found.sum()) == pytest.approx(1, abs=1e-3)
    assert "p_metastasis" not in rows[0]
