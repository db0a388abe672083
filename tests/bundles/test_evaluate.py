"""evaluate.json of the bundles, mostly of the segmentation ones, end to end."""

import csv
import json
import logging
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from PIL import Image
from tiny import BRIGHT, BUNDLES, NETWORKS, SEGMENTATION, bright, cause, config, infer, save, untrained

from monai_kd.metrics import MASK_METRICS

QUIET = {"device": "cpu", "amp": False, "logging_file": False}
WRITTEN = {"metrics.json", "slices.csv", "patients.csv", "dice.png", "overlays.png"}

# Of sagittal slices: x runs to the back, y to the feet. Spacing 0.8 × 0.5 mm, which no diagonal shows.
SAGITTAL = np.array([[0, 0, 6.0, 0], [-0.8, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]])


@pytest.fixture
def bright_network(tmp_path) -> dict:
    """Overrides that evaluate a network which finds what is bright."""
    return bright(tmp_path / "bright")


def write_slices(folder: Path, slices: list[tuple[np.ndarray, np.ndarray]], png: bool = False, **top) -> Path:
    """A data set of (image, mask) pairs, each (X, Y); one patient a slice, all in fold 0."""
    folder.mkdir(parents=True)
    entries = []
    for number, arrays in enumerate(slices):
        names = [f"{kind}{number}.{'png' if png else 'nii.gz'}" for kind in ("image", "label")]
        for name, array, top_value in zip(names, arrays, (200, 255 if png else 1), strict=True):
            pixels = (array * top_value).astype(np.uint8)
            if png:
                Image.fromarray(pixels.T).save(folder / name)
            else:
                nib.save(nib.Nifti1Image(pixels[..., None], SAGITTAL), folder / name)
        person = {"class": number % 2, "patient": str(number), "group": str(number), "fold": 0}
        entries.append({"image": names[0], "label": names[1], **person, "source": f"{number}.mat"})
    content = {"name": "blocks", "labels": {"1": "meningioma", "2": "glioma"}, **top, "training": entries}
    (folder / "datalist.json").write_text(json.dumps(content))
    return folder


def block(size: tuple[int, int], low: tuple[int, int], high: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size)
    mask[low[0] : high[0], low[1] : high[1]] = 1
    return mask


def prepare(bundle: str, **overrides):
    return create_workflow(config_file=config(bundle, "evaluate"), workflow_type="infer", **{**QUIET, **overrides})


def evaluate(output_dir: Path, bundle: str = "seg_student", **overrides) -> tuple[dict, list[dict[str, str]]]:
    workflow = prepare(bundle, output_dir=str(output_dir), bootstrap=overrides.pop("bootstrap", 50), **overrides)
    workflow.run()
    workflow.finalize()
    text = (output_dir / "metrics.json").read_text()
    metrics = json.loads(text, parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))
    with open(output_dir / "slices.csv", newline="") as file:
        return metrics, list(csv.DictReader(file))


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request, disc_dataset, tmp_path_factory) -> tuple[str, str]:
    """A bundle, and an untrained checkpoint of it that says to have been trained on two folds of the discs."""
    told = {"dataset_dir": str(disc_dataset), "fold": 1, "leave_out": []}
    return request.param, str(untrained(request.param, tmp_path_factory.mktemp(request.param), **told))


@pytest.mark.parametrize("trained", SEGMENTATION, indirect=True)
def test_end_to_end(trained, disc_dataset, tmp_path, caplog):
    bundle, checkpoint = trained
    with caplog.at_level(logging.INFO):
        metrics, slices = evaluate(tmp_path, bundle, dataset_dir=str(disc_dataset), checkpoint=checkpoint)
    assert {path.name for path in tmp_path.iterdir()} == WRITTEN
    # network, image size and fold come from beside the checkpoint
    assert (metrics["dataset"]["fold"], metrics["settings"]["image_size"]) == (1, 32)
    assert {row["fold"] for row in slices} == {"1"}
    assert len(slices) == metrics["overall"]["slices"] == 4
    assert metrics["overall"]["patients"] == 2
    assert set(metrics["overall"]["metrics"]) == set(MASK_METRICS)
    assert metrics["overall"]["metrics"]["dice"]["over_slices"]["mean"] == pytest.approx(
        np.mean([float(row["dice"]) for row in slices])
    )
    assert len(metrics["checkpoint"]["sha256"]) == 64
    assert metrics["versions"]["torch"] == torch.__version__.partition("+")[0]
    # logged: what is evaluated, that it is synthetic; and the table
    assert "fold 1, the validation fold of the training" in caplog.text
    assert metrics["synthetic"] is True
    assert "SYNTHETIC" in metrics["notes"][0]
    assert "SYNTHETIC" in caplog.text
    assert "surface_distance_mm" in caplog.text


@pytest.mark.parametrize("bundle", NETWORKS)
def test_has_all_that_monai_asks_for_even_without_a_checkpoint(bundle, disc_dataset, tmp_path):
    # small, or the teacher's Vision Transformer takes its time
    values = {
        "network_def": NETWORKS[bundle],
        "dataset_dir": str(disc_dataset),
        "checkpoint": str(tmp_path / "none.pt"),
    }
    assert prepare(bundle, **values).check_properties() == []


@pytest.mark.parametrize("bundle", NETWORKS)
def test_preprocessing_is_that_of_training(bundle, disc_dataset, tmp_path):
    item = {name: str(disc_dataset / f"{name}s" / "0003.nii.gz") for name in ("image", "label")}
    checkpoint = untrained(bundle, tmp_path, image_size=48)
    values = {"train": {"image_size": 48}, "evaluate": {"checkpoint": str(checkpoint)}}
    images = {}
    for name, key in (("train", "validate#preprocessing"), ("evaluate", "preprocessing")):
        parser = ConfigParser()
        parser.read_config(config(bundle, name))
        parser.update({"bundle_root": str(BUNDLES / bundle), "dataset_dir": str(disc_dataset), **values[name]})
        images[name] = torch.as_tensor(parser.get_parsed_content(key)(dict(item))["image"])
    assert images["train"].shape == (3, 48, 48)
    torch.testing.assert_close(images["evaluate"].as_subclass(torch.Tensor), images["train"], rtol=0, atol=0)


def test_known_prediction_comes_back_to_the_geometry_of_the_file(bright_network, tmp_path):
    # Slices of several sizes in one batch: made smaller along x and bigger along y, or neither.
    masks = [
        block((64, 16), (10, 2), (40, 9)),
        block((64, 16), (0, 12), (6, 16)),
        block((32, 32), (3, 5), (20, 30)),
        block((96, 64), (30, 6), (60, 12)),
    ]
    data = write_slices(tmp_path / "data", [(mask, mask) for mask in masks])
    metrics, slices = evaluate(tmp_path / "eval", dataset_dir=str(data), **bright_network)
    for row, mask in zip(slices[:3], masks, strict=False):
        assert (float(row["dice"]), float(row["hd95_mm"])) == (1.0, 0.0)
        assert float(row["truth_area_mm2"]) == pytest.approx(mask.sum() * 0.8 * 0.5)
    # Three pixels became one, so that edges within one of those are lost, and no others.
    assert float(slices[3]["dice"]) == pytest.approx(1.0, abs=0.02)
    assert metrics["synthetic"] is False
    assert metrics["overall"]["missed_tumours"] == 0


def test_shifted_truth_is_measured_by_the_affine(bright_network, tmp_path):
    size = (32, 32)
    shifted = [
        (block(size, (8, 8), (16, 16)), block(size, (8 + x, 8 + y), (16 + x, 16 + y))) for x, y in ((2, 0), (0, 2))
    ]
    data = write_slices(tmp_path / "data", shifted)
    _, slices = evaluate(tmp_path / "eval", dataset_dir=str(data), **bright_network)
    assert [float(row["dice"]) for row in slices] == pytest.approx([0.75, 0.75])
    assert [float(row["hd95_mm"]) for row in slices] == pytest.approx([2 * 0.8, 2 * 0.5])


def test_pictures_take_their_spacing_from_the_data_list(bright_network, tmp_path):
    size = (64, 32)
    slices = [(block(size, (8, 8), (16, 16)), block(size, (12, 8), (20, 16)))]
    data = write_slices(tmp_path / "data", slices, png=True, spacing=[0.7, 0.3, 6.0])
    _, (row,) = evaluate(tmp_path / "eval", dataset_dir=str(data), **bright_network)
    assert float(row["dice"]) == 0.5
    assert float(row["hd95_mm"]) == pytest.approx(4 * 0.7)
    assert float(row["truth_area_mm2"]) == pytest.approx(64 * 0.7 * 0.3)
    with pytest.raises(RuntimeError) as caught:
        evaluate(
            tmp_path / "other", dataset_dir=str(write_slices(tmp_path / "without", slices, png=True)), **bright_network
        )
    assert "does not record the size of a pixel" in cause(caught.value)


def test_kinds_of_files_are_evaluated_together(bright_network, tmp_path):
    mask = block((64, 32), (8, 8), (16, 16))
    data = write_slices(tmp_path / "data", [(mask, mask)] * 3, spacing=[0.8, 0.5, 6.0])
    pictures = write_slices(tmp_path / "pictures", [(mask, mask)] * 3, png=True)
    datalist = json.loads((data / "datalist.json").read_text())
    for name in ("image", "label"):
        # A picture, NIfTI of two axes, NIfTI of three.
        shutil.copy(pictures / f"{name}0.png", data)
        datalist["training"][0][name] = f"{name}0.png"
        flat = nib.load(data / f"{name}1.nii.gz")
        nib.save(nib.Nifti1Image(np.asarray(flat.dataobj)[..., 0], SAGITTAL), data / f"{name}1.nii.gz")
    (data / "datalist.json").write_text(json.dumps(datalist))
    _, slices = evaluate(tmp_path / "eval", dataset_dir=str(data), batch_size=3, **bright_network)
    assert [(float(row["dice"]), float(row["truth_area_mm2"])) for row in slices] == [(1, pytest.approx(64 * 0.4))] * 3


def test_missed_tumours_are_counted_and_undefined_metrics_empty(bright_network, tmp_path, caplog):
    size = (32, 32)
    mask = block(size, (8, 8), (16, 16))
    # an even slice is scaled to 0: nothing is bright
    data = write_slices(tmp_path / "data", [(mask, mask), (np.ones(size), mask), (mask, mask)])
    metrics, slices = evaluate(tmp_path / "eval", dataset_dir=str(data), **bright_network)
    warned = [record.getMessage() for record in caplog.records if "single value" in record.getMessage()]
    assert len(warned) == 1
    assert "the image of 1 of 3 slices has a single value" in warned[0]
    assert ": image1.nii.gz." in warned[0]
    assert metrics["overall"]["missed_tumours"] == 1
    assert (slices[1]["dice"], slices[1]["precision"], slices[1]["hd95_mm"]) == ("0.0", "", "")
    distance = metrics["overall"]["metrics"]["hd95_mm"]["over_slices"]
    assert (distance["mean"], distance["defined"], distance["undefined"]) == (0.0, 2, 1)
    assert metrics["classes"]["glioma"]["metrics"]["precision"]["over_patients"]["mean"] is None


def test_threshold_decides(bright_network, tmp_path):
    # The middle grey of the second block has the probability 0.5 + a little; 0.99 leaves only white.
    image = block((32, 32), (4, 4), (12, 12)) + 0.51 * block((32, 32), (20, 20), (28, 28))
    data = write_slices(tmp_path / "data", [(image, block((32, 32), (4, 4), (12, 12)))])
    values = {"dataset_dir": str(data), **bright_network}
    assert evaluate(tmp_path / "half", **values)[1][0]["dice"] != "1.0"
    assert evaluate(tmp_path / "high", threshold=0.99, **values)[1][0]["dice"] == "1.0"


def test_the_mask_of_the_highest_expected_dice(tmp_path):
    # White for sure, and a grey block with a probability of 0.45: (64 + 29) / (128 + 93) is more than 64 / (64 + 93).
    white, grey = block((32, 32), (4, 4), (12, 12)), block((32, 32), (20, 20), (28, 28))
    data = write_slices(tmp_path / "data", [(white + 0.495 * grey, white + grey)])
    values = {"dataset_dir": str(data), **bright(tmp_path / "bright", steepness=10)}
    assert float(evaluate(tmp_path / "half", **values)[1][0]["dice"]) == pytest.approx(2 / 3)
    metrics, (row,) = evaluate(tmp_path / "expected", threshold="expected_dice", **values)
    assert row["dice"] == "1.0"
    assert metrics["settings"]["threshold"] == "expected_dice"


def test_a_mask_that_is_never_empty_needs_a_rule(tmp_path):
    """Inference on slices of which nothing says whether they show a tumour."""
    checkpoint = untrained("seg_student", tmp_path / "weights")
    values = {"checkpoint": str(checkpoint), "input": str(tmp_path / "none"), "threshold": "expected_dice"}
    with pytest.raises((RuntimeError, ValueError)) as caught:
        infer("seg_student", "inference", output_dir=str(tmp_path / "out"), **values)
    assert "nothing says which slices are to be marked: choose" in cause(caught.value)


def test_all_slices_need_no_fold_and_seen_ones_are_said(trained, disc_dataset, tmp_path, caplog):
    bundle, checkpoint = trained
    metrics, slices = evaluate(tmp_path, bundle, dataset_dir=str(disc_dataset), checkpoint=checkpoint, part="all")
    assert (len(slices), metrics["dataset"]["fold"]) == (12, None)
    assert any("8 of the 12 slices were TRAINED ON" in note for note in metrics["notes"])
    assert "TRAINED ON" in caplog.text


@pytest.mark.parametrize("trained", ["seg_student", "cls_student"], indirect=True)
@pytest.mark.parametrize(("fold", "said"), [(1, 0), (2, 4)])
def test_slices_that_the_teacher_was_trained_on_are_said(trained, disc_dataset, tmp_path, fold, said):
    bundle, checkpoint = trained
    settings = json.loads((Path(checkpoint).parent / "settings.json").read_text())
    settings["teacher"] = {"checkpoint": "t.pt", "dataset_dir": str(disc_dataset), "fold": fold, "leave_out": []}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    shutil.copy(checkpoint, tmp_path)
    metrics, _ = evaluate(
        tmp_path / "eval", bundle, dataset_dir=str(disc_dataset), checkpoint=str(tmp_path / "model.pt")
    )
    notes = [note.split(":")[0] for note in metrics["notes"] if "teacher" in note]
    assert notes == [f"The teacher of this checkpoint was TRAINED ON {said} of the 4 slices"] * bool(said)


@pytest.mark.parametrize("trained", SEGMENTATION, indirect=True)
def test_another_data_set_than_in_training_is_said(trained, tmp_path, caplog):
    bundle, checkpoint = trained
    mask = block((32, 32), (8, 8), (16, 16))
    data = write_slices(tmp_path / "other", [(mask, mask)])
    metrics, _ = evaluate(tmp_path / "eval", bundle, dataset_dir=str(data), checkpoint=checkpoint, fold=0)
    assert any("was trained on" in note and str(data) in note for note in metrics["notes"])
    assert "was trained on" in caplog.text


def test_same_seed_same_files(bright_network, tmp_path):
    random = np.random.default_rng(0)
    data = write_slices(tmp_path / "data", [(random.random((32, 32)), random.random((32, 32)) > 0.5) for _ in range(4)])
    values = {"dataset_dir": str(data), **bright_network}
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        evaluate(tmp_path / name, seed=seed, **values)
    one, two, three = ((tmp_path / name / "metrics.json").read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three


@pytest.mark.parametrize("trained", SEGMENTATION, indirect=True)
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"checkpoint": "nowhere/model.pt"}, "FileNotFoundError: there is no checkpoint nowhere"),
        ({"network_def": {**NETWORKS["seg_student"], "features": [4, 4, 8, 8, 16, 4]}}, "does not fit BasicUNet"),
        ({"dataset_dir": "nowhere"}, "FileNotFoundError: dataset_dir: there is no folder nowhere"),
        ({"fold": 7}, "has the folds [0, 1, 2]"),
        ({"fold": 1, "leave_out": [1]}, "1 is none of them"),
        ({"part": "all", "leave_out": [0, 1, 2]}, "no slices"),
        ({"part": "training"}, "part must be 'validation' or 'all', got 'training'"),
        ({"threshold": 1.5}, "threshold must be a number between 0 and 1, or 'expected_dice', got 1.5"),
        ({"bootstrap": -1}, "bootstrap must be a whole number from 0, got -1"),
    ],
)
def test_clear_errors(trained, disc_dataset, tmp_path, overrides, message):
    bundle, checkpoint = trained
    values = {"dataset_dir": str(disc_dataset), "checkpoint": checkpoint, "output_dir": str(tmp_path), **overrides}
    with pytest.raises((RuntimeError, ValueError, FileNotFoundError)) as caught:
        prepare(bundle, **values).run()
    assert message in cause(caught.value)
    assert not list(tmp_path.iterdir())


def test_broken_weights_are_no_missed_tumours(bright_network, tmp_path):
    state = {"weight": torch.zeros(1, 3, 1, 1), "bias": torch.tensor([float("nan")])}
    save(tmp_path / "bright", state, network_def=BRIGHT, image_size=32)
    mask = block((32, 32), (8, 8), (16, 16))
    data = write_slices(tmp_path / "data", [(mask, mask)])
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path / "eval", dataset_dir=str(data), **bright_network)
    assert "not finite" in cause(caught.value)


def test_label_of_another_size_is_named(bright_network, tmp_path):
    data = write_slices(tmp_path / "data", [(block((32, 32), (8, 8), (16, 16)), block((32, 30), (8, 8), (16, 16)))])
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path / "eval", dataset_dir=str(data), **bright_network)
    assert re.search(r"label0\.nii\.gz has 32 × 30 pixels, and .*image0\.nii\.gz has 32 × 32", cause(caught.value))


def test_masks_that_are_hardly_ever_empty_are_no_measure_of_specificity(bright_network, disc_dataset, tmp_path, caplog):
    values = {"dataset_dir": str(disc_dataset), "threshold": "expected_dice", **bright_network}
    told = "how many slices without a tumour are marked is to be read at the operating point"
    assert not any(told in note for note in evaluate(tmp_path / "all", **values)[0]["notes"])
    assert any(told in note for note in evaluate(tmp_path / "half", negative_share=0.5, **values)[0]["notes"])
