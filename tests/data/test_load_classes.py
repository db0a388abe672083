"""Slices by class: what a data list must have before a network learns from it."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

import pytest
import torch

from monai_kd.data import class_names, class_weights, load_classes

NAMES = ["meningioma", "glioma", "pituitary", "other"]
LABELS = {"1": "meningioma", "2": "glioma", "3": "pituitary"}


def write(folder: Path, rows: list[tuple[int, object]], labels: dict[str, str] | None = None) -> Path:
    """A data list of slices (fold, class) that are no pictures."""
    for n in range(len(rows)):
        (folder / f"{n}.png").write_text(str(n))
    entries = [
        {
            "image": f"{n}.png",
            "class": number,
            "patient": str(n),
            "group": str(n),
            "fold": fold,
            "source": f"{n}.mat",
        }
        for n, (fold, number) in enumerate(rows)
    ]
    content = {"labels": LABELS if labels is None else labels, "training": entries}
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


ALL = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_entries_of_a_side(tmp_path):
    folder = write(tmp_path, ALL)
    assert [entry["patient"] for entry in load_classes(folder, 0, "training")] == ["3", "4", "5"]
    assert [entry["class"] for entry in load_classes(folder, 0, "validation")] == [0, 1, 2]
    assert len(load_classes(folder, None, "all")) == 6


@pytest.mark.parametrize("number", [3, 4])
@pytest.mark.parametrize("part", ["training", "validation", "all"])
def test_a_class_without_a_name(tmp_path, number, part):
    fold = 0 if part == "validation" else 1
    with pytest.raises(ValueError, match=rf"\d\.png', has the class {number}; 'labels' names 3.*classes are\s+0 to 2"):
        load_classes(write(tmp_path, [*ALL, (fold, number)]), 0, part)


def test_a_class_without_a_number(tmp_path):
    folder = write(tmp_path, ALL)
    content = json.loads((folder / "datalist.json").read_text())
    del content["training"][4]["class"]
    (folder / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"has no class; see docs/data\.md"):
        load_classes(folder, 0, "training")


def test_one_name_is_nothing_to_tell_apart(tmp_path):
    with pytest.raises(ValueError, match="names 1 class in 'labels'; a classification needs at least two"):
        load_classes(write(tmp_path, [(0, 0), (1, 0)], {"1": "tumour"}), 0, "training")


def test_class_missing_in_training_is_an_error(tmp_path):
    folder = write(tmp_path, [(0, 0), (0, 1), (0, 2), (1, 0), (2, 1)])
    with pytest.raises(ValueError, match=r"no training slice shows pituitary: choose another fold"):
        load_classes(folder, 0, "training")
    with pytest.raises(ValueError, match=r"no training slice shows glioma, pituitary"):
        load_classes(folder, 0, "training", leave_out=[2])
    assert len(load_classes(folder, 1, "training")) == 4


@pytest.mark.parametrize("part", ["validation", "all"])
def test_class_missing_elsewhere_is_a_warning(tmp_path, caplog, part):
    folder = write(tmp_path, [(0, 1), (0, 1), (1, 1)] if part == "all" else [(0, 1), *ALL[3:]])
    entries = load_classes(folder, 0, part)
    assert {entry["class"] for entry in entries} == {1}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"No slice of the {part} part shows meningioma, pituitary" in record.getMessage()


def test_nothing_is_said_when_all_are_there(tmp_path, caplog):
    folder = write(tmp_path, ALL)
    for part in ("training", "validation", "all"):
        load_classes(folder, 0, part)
    assert not caplog.records


def entries(*counts: int) -> list[dict]:
    return [{"class": number} for number, count in enumerate(counts) for _ in range(count)]


@pytest.mark.parametrize("counts", [(3, 1), (708, 1426, 930), (2, 2, 2), (1, 5, 1, 9)])
def test_balanced_weights(counts):
    found = class_weights(entries(*counts), NAMES[: len(counts)], "balanced")
    assert found.dtype is torch.float32
    # each class weighs the same in sum, and a slice 1 on average
    shares = [float(weight) * count for weight, count in zip(found, counts, strict=True)]
    assert shares == pytest.approx([sum(counts) / len(counts)] * len(counts))
    assert sum(shares) / sum(counts) == pytest.approx(1.0)


@pytest.mark.parametrize("counts", [(3, 1), (708, 1426, 930)])
def test_numbers_are_scaled_so_that_a_slice_weighs_1_on_average(counts):
    # torch divides by the weights of a batch's classes, but by its size for mixed targets: only so do both agree.
    numbers = [5.0, 1.0, 2.0][: len(counts)]
    found = class_weights(entries(*counts), NAMES[: len(counts)], numbers)
    assert found.tolist() == pytest.approx([w * float(found[1]) for w in numbers])
    assert sum(float(w) * n for w, n in zip(found, counts, strict=True)) / sum(counts) == pytest.approx(1.0)


def test_balanced_cross_entropy_is_the_mean_over_classes_of_their_means():
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(10, 3, generator=generator), torch.tensor([0] * 6 + [1] * 3 + [2])
    weights = class_weights([{"class": int(number)} for number in truth], NAMES[:3], "balanced")
    losses = -logits.log_softmax(dim=1)[torch.arange(10), truth]
    expected = torch.stack([losses[truth == number].mean() for number in range(3)]).mean()
    torch.testing.assert_close(torch.nn.CrossEntropyLoss(weight=weights)(logits, truth), expected)


def test_balanced_weights_count_the_negatives_that_are_made():
    # Half of 4 + 2 slices become "no tumour" beside the one that is listed: 2, 1 and 4 of 7.
    found = class_weights(entries(4, 2, 1), ["a", "b", "no tumour"], "balanced", 0.5)
    assert found.tolist() == pytest.approx([7 / 3 / 2, 7 / 3 / 1, 7 / 3 / 4])
    first = class_weights([{"class": 1}, {"class": 2}], ["no tumour", "a", "b"], "balanced", 0.5)
    assert first.tolist() == pytest.approx([2 / 3, 4 / 3, 4 / 3])


def test_made_negatives_need_masks_and_no_slices_of_their_own(tmp_path):
    folder = write(tmp_path, ALL)
    with pytest.raises(ValueError, match="label"):
        load_classes(folder, 0, "training", negatives=True)
    content = json.loads((folder / "datalist.json").read_text())
    for entry in content["training"]:
        entry["label"] = entry["image"].replace(".png", "_mask.png")
        (folder / entry["label"]).write_text("mask")
    (folder / "datalist.json").write_text(json.dumps(content))
    found = load_classes(folder, 0, "training", negatives=True)
    assert {Path(entry["label"]).name for entry in found} == {"3_mask.png", "4_mask.png", "5_mask.png"}
    assert class_names(folder, negatives=True) == [*LABELS.values(), "no tumour"]
    listed = write(tmp_path, ALL, {**LABELS, "3": "no tumour"})
    assert class_names(listed, negatives=True) == ["meningioma", "glioma", "no tumour"]


def test_other_weights():
    assert class_weights(entries(1, 2), NAMES[:2], None) is None
    assert class_weights(entries(1, 2), NAMES[:2], [1, 2.5]).tolist() == [0.5, 1.25]
    assert class_weights(entries(1, 2), NAMES[:2], (3, 4)).dtype is torch.float32


@pytest.mark.parametrize(
    "how", ["inverse", [1.0], [1.0, 2.0, 3.0], [1.0, 0.0], [1.0, -1.0], [1.0, math.inf], [1.0, "2"], 2.0]
)
def test_wrong_weights(how):
    with pytest.raises(ValueError, match="must be None, 'balanced' or 2 positive numbers"):
        class_weights(entries(1, 2), NAMES[:2], how)


def test_balanced_needs_all_classes():
    with pytest.raises(ValueError, match=r"\[2, 0, 1\] slices; each needs one"):
        class_weights([{"class": 0}, {"class": 0}, {"class": 2}], NAMES[:3], "balanced")
