"""The recipe of the study: nnU-Net's augmentation, averaged weights, warm-up; resumed as if it had not stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from tiny import OVERRIDES, config, rows

from monai_kd.transforms import slice_preprocessing

EXPERIMENTS = Path(__file__).resolve().parents[2] / "docs" / "experiments"
RECIPE = str(EXPERIMENTS / "nnunet.json")


def train(bundle: str, dataset: Path, folder: Path, files: Sequence[str] = (), **overrides):
    values = {**OVERRIDES[bundle], "dataset_dir": str(dataset), "output_dir": str(folder), "batch_size": 8, **overrides}
    files = [*config(bundle, "train"), RECIPE, *(str(EXPERIMENTS / name) for name in files)]
    if bundle.startswith("cls"):
        files.append(str(EXPERIMENTS / "nnunet_cls.json"))
    workflow = create_workflow(config_file=files, workflow_type="train", **values)
    workflow.run()
    workflow.finalize()
    return workflow


def without_clock(folder: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(folder)]


STUDENTS = [("seg_student", {"recipe": "none"}), ("cls_student", {"recipe": "none"})]


@pytest.mark.parametrize(("bundle", "more"), [*STUDENTS, ("seg_teacher", {})])
def test_resumed_run_is_the_uninterrupted_one(bundle, more, class_dataset, tmp_path):
    train(bundle, class_dataset, tmp_path / "whole", epochs=3, **more)
    # Two epochs of warm-up, in which the rate does not depend on the number of epochs.
    train(bundle, class_dataset, tmp_path / "parts", epochs=2, **more)
    train(bundle, class_dataset, tmp_path / "parts", epochs=3, resume=True, **more)
    assert without_clock(tmp_path / "parts") == without_clock(tmp_path / "whole")
    rate = rows(tmp_path / "whole")[2]["learning_rate"]
    assert [row["learning_rate"] / rate for row in rows(tmp_path / "whole")] == pytest.approx([0.1, 0.55, 1.0])
    settings = json.loads((tmp_path / "whole" / "settings.json").read_text())
    assert settings["ema"] == 0.999
    flip, rotation = settings["definitions"]["augmentation"][:2]
    assert flip == {"_target_": "RandFlipd", "keys": flip["keys"], "prob": 0.5, "spatial_axis": 1}
    assert (rotation["range_x"], rotation["keys"]) == (0.52, flip["keys"])
    assert settings["definitions"]["lr_scheduler"]["warmup_steps"] == 2
    weights = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts")]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.parametrize(
    ("bundle", "more"), [*STUDENTS, ("cls_student", {"recipe": "none", "negative_probability": 0.3})]
)
def test_final_network_is_trained_on_all_folds_and_of_the_last_epoch(bundle, more, class_dataset, tmp_path):
    workflow = train(bundle, class_dataset, tmp_path, epochs=2, files=["last_epoch.json", "all_folds.json"], **more)
    entries = json.loads((class_dataset / "datalist.json").read_text())["training"]
    assert len(workflow.parser.get_parsed_content("train#dataset")) == len(entries)
    assert (
        json.loads((tmp_path / "settings.json").read_text()).items()
        >= {
            "fold": None,
            "best_epoch_by": "last epoch",
        }.items()
    )
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["best_metric_epoch"] == 2
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(value, last["average"][key]) for key, value in saved.items())


def augmented(image: torch.Tensor, label: torch.Tensor, seed: int, only: str | None = None) -> dict[str, torch.Tensor]:
    """A slice after the augmentation; with ``only``, after that transform alone, always applied."""
    recipe = json.loads(Path(RECIPE).read_text())
    parser = ConfigParser({name: recipe[name] for name in ("augmented", "augmentation")})
    item = {"image": image, "label": label}
    for transform in parser.get_parsed_content("augmentation"):
        transform.set_random_state(seed)
        if only is None or type(transform).__name__ == only:
            transform.prob = transform.prob if only is None else 1.0
            item = transform(item)
    return item


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("only", [None, "RandRotated", "RandZoomd", "RandFlipd"])
def test_mask_moves_with_the_image(only, seed):
    # A disc that is bright where it is tumour: after a change of place the two still agree.
    rows_, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    label = ((rows_ - 25).square() + (columns - 38).square() < 120).float()[None]
    found = augmented(0.1 + 0.8 * label, label, seed, only)
    assert found["image"].shape == found["label"].shape == (1, 64, 64)
    assert set(found["label"].unique().tolist()) <= {0.0, 1.0}
    if only is not None:
        assert not torch.equal(found["label"], label)
        bright = found["image"] > 0.5
        both = (bright & (found["label"] > 0)).sum() * 2 / (bright.sum() + found["label"].sum())
        assert both > 0.95


def test_augmentation_is_of_the_grey_values_before_they_are_normalised(class_dataset):
    # So that all channels have the same noise, and the background of a rotated slice is that of the slice.
    entry = json.loads((class_dataset / "datalist.json").read_text())["training"][0]
    item = {"image": str(class_dataset / entry["image"]), "label": str(class_dataset / entry["label"])}
    common = {"image_size": 32, "label": True, "single_slices": True, "mean": [0.5] * 3, "std": [0.25, 0.5, 1.0]}
    plain = slice_preprocessing(**common)(item)["image"]
    seen = []

    def brighter(item):
        seen.append((item["image"].shape, float(item["image"].min()), float(item["image"].max())))
        return {**item, "image": item["image"] + 0.25}

    found = slice_preprocessing(**common, augment=[brighter])(item)["image"]
    [(shape, lowest, highest)] = seen
    assert shape == (1, 32, 32)
    assert 0 <= lowest < 0.2
    assert 0.8 < highest <= 1
    shift = torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    torch.testing.assert_close(found.as_tensor(), plain.as_tensor() + shift)
