"""The pictures of docs/study.md on what distillation gives beyond accuracy."""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from disc_slices import write_disc_slices
from documented import ROOT, copied_checkout, run

EXPERIMENTS = ROOT / "docs" / "experiments"


def write_run(folder: Path, dice: float, share: float, weights: int) -> None:
    """What the program reads of a run."""
    (folder / "evaluation").mkdir(parents=True)
    over_slices = {"mean": dice, "interval_95": [dice - 0.1, dice + 0.1]}
    metrics = {"overall": {"metrics": {"dice": {"over_slices": over_slices}}}}
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    (folder / "settings.json").write_text(json.dumps({"labelled_share": share}))
    torch.save({"weight": torch.zeros(weights)}, folder / "model.pt")
    with open(folder / "log.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerows([["epoch", "val/dice"], [1, ""], [2, dice - 0.2], [3, ""], [4, dice]])


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return runpy.run_path(str(EXPERIMENTS / "beyond_accuracy.py"))


@pytest.fixture
def runs(tmp_path):
    """Two folds, each alone and distilled with a tenth and with all labels, and a teacher."""
    made = []
    for fold, more in ((1, 0.0), (2, 0.05)):
        for network, how, share, dice, weights in (
            *(("lite0", "alone", 0.1, 0.5, 3_500_000), ("lite0", "alone", 1, 0.7, 3_500_000)),
            *(("lite0", "distilled", 0.1, 0.55, 3_500_000), ("lite0", "distilled", 1, 0.71, 3_500_000)),
            ("hybrid", "alone", 1, 0.72, 28_000_000),
        ):
            made.append(tmp_path / f"seg_{network}_{how}_fold{fold}_seed0_labels{share}")
            write_run(made[-1], dice + more, share, weights)
    return list(map(str, made))


def lines_by_label(figure) -> dict[str, list[tuple[float, float]]]:
    (axes,) = figure.axes
    found = {str(line.get_label()): list(zip(*line.get_data(), strict=True)) for line in axes.lines}
    return {label: points for label, points in found.items() if not label.startswith("_")}


def test_dice_over_the_share_of_labels(program, runs):
    found = lines_by_label(program["labels"](runs))
    assert list(found) == [f"{kind}, fold {fold}" for kind in ("alone", "distilled", "teacher") for fold in (1, 2)]
    # Kinds are drawn a little beside each other.
    assert [x for x, _ in found["distilled, fold 2"]] == pytest.approx([10, 100])
    assert [x for x, _ in found["alone, fold 2"]] == pytest.approx([10, 100], rel=0.04)
    assert [y for _, y in found["alone, fold 2"]] == pytest.approx([0.55, 0.75])
    assert [y for _, y in found["distilled, fold 1"]] == pytest.approx([0.55, 0.71])


def test_dice_over_the_number_of_weights(program, runs):
    found = lines_by_label(program["size"](run for run in runs if "fold1" in run and "labels1" in run))
    assert list(found) == ["alone", "distilled", "teacher"]
    assert found["teacher"][0] == pytest.approx((28 * 1.03, 0.72))
    assert found["distilled"][0] == pytest.approx((3.5, 0.71))


def test_mean_dice_over_the_epochs(program, runs):
    words = [run for run in runs if "labels1" in run and "lite0" in run]
    found = lines_by_label(program["epochs"](words))
    np.testing.assert_allclose(found["alone, mean of the runs"], [(2, 0.525), (4, 0.725)])
    np.testing.assert_allclose(found["distilled, mean of the runs"], [(2, 0.535), (4, 0.735)])


def test_dice_in_two_precisions(program, tmp_path):
    data = write_disc_slices(tmp_path / "data", 4, folds=2)
    for folder, keep in (("masks_alone_float32", 1), ("masks_alone_int8", 0)):
        (tmp_path / folder).mkdir()
        for path in sorted((data / "labels").glob("*.nii.gz")):
            mask = nib.load(path).get_fdata() * keep
            name = path.name.replace(".nii.gz", "_mask.nii.gz")
            nib.save(nib.Nifti1Image(mask.astype(np.uint8), np.eye(4)), tmp_path / folder / name)
    masks = [str(tmp_path / f"masks_alone_{precision}") for precision in ("float32", "int8")]
    found = lines_by_label(program["int8"]([str(data), *masks]))
    assert [dice for _, dice in found["alone"]] == [1, 0]


def test_wrong_calls(program, tmp_path, capsys):
    assert program["main"](["labels", str(tmp_path / "a.png")]) == 2
    assert program["main"](["sizes", str(tmp_path / "a.png"), "run"]) == 2
    assert "beyond_accuracy.py labels PICTURE RUN" in capsys.readouterr().err
    assert program["main"]([]) == 2
    assert "beyond_accuracy.py labels PICTURE RUN" in capsys.readouterr().err
    assert program["main"](["labels", str(tmp_path / "a.png"), "cls_lite0_alone_fold1_seed0"]) == 2
    assert "the name is not that of a segmentation" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_lines_of_the_page(lines, tmp_path, monkeypatch):
    checkout = copied_checkout(tmp_path / "checkout")
    (checkout / "DATA").symlink_to(write_disc_slices(tmp_path / "data", 4, folds=2))
    small = "size128_negatives0.3"
    names = [f"lite0_alone_fold{fold}_seed0_epochs10_{small}" for fold in (1, 2, 3, 4)]
    names += [name.replace("alone", "distilled") for name in names]
    names += [f"{network}_alone_fold1_seed0_epochs10_{small}" for network in ("small", "hybrid")]
    names += [f"{network}_alone_fold1_seed0_epochs100_{small}_labels0.1" for network in ("lite0", "hybrid")]
    names += [f"small_distilled_fold1_seed0_epochs10_{small}", f"hybrid_alone_fold4_seed0_epochs10_{small}"]
    sizes = [(network, how) for network in ("tiny", "small") for how in ("alone", "distilled")]
    names += [f"{network}_{how}_fold4_seed0_epochs10_{small}" for network, how in sizes]
    soft = "lite0_distilled_fold1_seed0_epochs10_size128_recipesoft_dice_negatives0.3"
    for number, name in enumerate([*names, soft, f"{soft}_labels0.1"]):
        share = 0.1 if name.endswith("labels0.1") else 1
        write_run(checkout / "runs" / f"seg_{name}", 0.5 + 0.01 * number, share, 10**6)
    for kind in ("alone", "distilled"):
        for precision in ("float32", "int8"):
            masks = checkout / f"masks_{kind}_{precision}"
            masks.mkdir()
            for path in (checkout / "DATA" / "labels").glob("*.nii.gz"):
                (masks / path.name.replace(".nii.gz", "_mask.nii.gz")).symlink_to(path.resolve())
    for line in lines:
        run(line, checkout, monkeypatch)
    pictures = sorted(path.name for path in (checkout / "docs" / "images").iterdir())
    assert pictures == [f"study_{name}.png" for name in ("epochs", "int8", "labels", "size")]
