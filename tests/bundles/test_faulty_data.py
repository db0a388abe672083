"""Data with faults, through the configs: refused by name in training and in evaluation, or put right in both."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow
from tiny import bright, config, prepare, rows, train, untrained

from monai_kd.bundle import describe_evaluation
from monai_kd.config.errors import _short_error
from monai_kd.data import UnusableItems
from monai_kd.inference import UnreadableImage
from monai_kd.io.table import read_table


@pytest.fixture
def copied(disc_dataset, tmp_path) -> Path:
    return Path(shutil.copytree(disc_dataset, tmp_path / "data"))


def entry(dataset: Path, held_out: bool) -> dict:
    """The second slice of fold 0, which validates, or of the others, which train."""
    entries = json.loads((dataset / "datalist.json").read_text())["training"]
    return [each for each in entries if (each["fold"] == 0) == held_out][1]


def training_items(dataset: Path, tmp_path: Path, bundle: str = "seg_student") -> list[dict]:
    more = {"recipe": "none", "flip_probability": 0.0} if bundle == "seg_student" else {}
    workflow = prepare(bundle, dataset, tmp_path / "run", **more)
    return list(workflow.parser.get_parsed_content("train#dataset"))


def evaluated(dataset: Path, tmp_path: Path, bundle: str = "seg_student") -> dict:
    values = {"device": "cpu", "logging_file": False, "bootstrap": 0, "dataset_dir": str(dataset)}
    if bundle == "seg_student":
        values |= bright(tmp_path / "weights", image_size=64)
    else:
        values |= {"checkpoint": str(untrained(bundle, tmp_path / "weights"))}
    values |= {"output_dir": str(tmp_path / "eval"), "fold": 0}
    workflow = create_workflow(config_file=config(bundle, "evaluate"), workflow_type="infer", **values)
    workflow.run()
    workflow.finalize()
    return json.loads((tmp_path / "eval" / "metrics.json").read_text())


def stored_again(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(change(np.asarray(image.dataobj)), image.affine if affine is None else affine), path)


def told(error: BaseException | None) -> str:
    """Messages of an error and of what led to it."""
    return "" if error is None else f"{error}\n{told(error.__cause__)}"


def noise(mask: np.ndarray) -> np.ndarray:
    return np.where(mask == 0, np.random.default_rng(0).integers(0, 9, mask.shape), mask).astype(np.uint8)


MOVED = np.array([[-0.5, 0, 0, 1], [0, -0.5, 0, 0], [0, 0, 6, 0], [0, 0, 0, 1]])  # by 1 mm
FAULTS = {
    "noisy mask": ("label", lambda path: stored_again(path, noise), "the mask holds"),
    "three values": ("label", lambda path: stored_again(path, lambda m: m + (m.cumsum(1) > 9)), "mask holds 0, 1, 2,"),
    "other size": ("label", lambda path: stored_again(path, lambda mask: mask[:-1]), "has 63 × 64 pixels, and"),
    "elsewhere": (
        "label",
        lambda path: stored_again(path, np.array, MOVED),
        "but by its affine it is up to 2 pixels away from it",
    ),
    "truncated label": ("label", lambda path: path.write_bytes(path.read_bytes()[:-30]), "truncated or damaged"),
    "truncated image": ("image", lambda path: path.write_bytes(path.read_bytes()[:900]), "truncated or damaged"),
}


@pytest.mark.parametrize(("key", "spoil", "reason"), FAULTS.values(), ids=FAULTS)
def test_training_and_evaluation_name_the_file_and_the_reason(copied, tmp_path, key, spoil, reason):
    for held_out, use in ((False, training_items), (True, evaluated)):
        path = copied / entry(copied, held_out)[key]
        before = path.read_bytes()
        spoil(path)
        with pytest.raises((RuntimeError, ValueError)) as caught:
            use(copied, tmp_path)
        assert str(path) in told(caught.value)
        assert reason in told(caught.value)
        assert not (tmp_path / "eval" / "metrics.json").exists()
        path.write_bytes(before)


def test_a_slice_listed_without_a_tumour_has_none_in_its_mask(copied, tmp_path):
    for held_out, use in ((False, training_items), (True, evaluated)):
        content = json.loads((copied / "datalist.json").read_text())
        marked = entry(copied, held_out)
        listed = [{**each, "tumour": False} if each == marked else each for each in content["training"]]
        (copied / "datalist.json").write_text(json.dumps({**content, "training": listed}))
        with pytest.raises((RuntimeError, ValueError)) as caught:
            use(copied, tmp_path)
        assert f"{copied / marked['label']}: the mask is not empty" in told(caught.value)
        assert marked["image"] in told(caught.value)
        stored_again(copied / marked["label"], np.zeros_like)
        use(copied, tmp_path)
        (copied / "datalist.json").write_text(json.dumps(content))


@pytest.mark.parametrize("use", [training_items, evaluated])
def test_classifiers_name_the_file_too(class_dataset, tmp_path, use):
    copied = Path(shutil.copytree(class_dataset, tmp_path / "data"))
    path = copied / entry(copied, use is evaluated)["image"]
    path.write_bytes(b"")
    with pytest.raises((RuntimeError, ValueError)) as caught:
        use(copied, tmp_path, "cls_student")
    assert f"{path}: the file is empty" in told(caught.value)


@pytest.mark.parametrize("declared", [1, 7])
def test_the_data_list_decides_what_a_mask_holds(copied, tmp_path, declared):
    content = json.loads((copied / "datalist.json").read_text())
    (copied / "datalist.json").write_text(json.dumps({**content, "mask_value": declared}))
    if declared == 1:
        assert {float(value) for item in training_items(copied, tmp_path) for value in item["label"].unique()} == {0, 1}
        return
    for use in (training_items, evaluated):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            use(copied, tmp_path)
        assert "holds 0, 1, but 'mask_value' of the data list declares 0 and 7" in told(caught.value)


def test_labels_given_by_monai_label_are_checked(copied):
    items = [{key: str(copied / entry(copied, held_out)[key]) for key in ("image", "label")} for held_out in (0, 1)]
    stored_again(Path(items[1]["label"]), lambda mask: mask + (mask.cumsum(1) > 9).astype(np.uint8))
    workflow = create_workflow(
        config_file=config("seg_student", "train"),
        workflow_type="train",
        **{"device": "cpu", "logging_file": False, "train#dataset#data": items},
    )
    with pytest.raises((RuntimeError, ValueError)) as caught:
        workflow.parser.get_parsed_content("train#dataset")
    wanted = f"{items[1]['label']}: the mask holds 0, 1, 2, but a mask must hold 0 and one other value"
    assert wanted in told(caught.value)


def turned(path: Path) -> None:
    image = nib.load(path)
    nib.save(image.as_reoriented(np.array([[1, -1], [0, 1], [2, 1]])), path)


def test_labels_stored_in_other_directions_are_turned_to_their_image(copied, tmp_path):
    before, numbers = training_items(copied, tmp_path), evaluated(copied, tmp_path)
    for path in (copied / "labels").iterdir():
        turned(path)
    after, others = training_items(copied, tmp_path), evaluated(copied, tmp_path)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one["label"], other["label"])
        assert torch.equal(one["image"], other["image"])
    assert others["overall"] == numbers["overall"]
    assert numbers["overall"]["metrics"]["dice"]["over_slices"]["mean"] > 0.5


@pytest.mark.parametrize("bundle", ["seg_student", "seg_teacher"])
def test_validation_without_a_tumour_keeps_the_last_epoch(copied, tmp_path, bundle, caplog):
    for each in json.loads((copied / "datalist.json").read_text())["training"]:
        if each["fold"] == 0:
            stored_again(copied / each["label"], np.zeros_like)
    more = {"recipe": "none"} if bundle == "seg_student" else {}
    with caplog.at_level(logging.INFO):
        workflow = train(bundle, copied, tmp_path / "run", epochs=2, **more)
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("has a tumour: Dice is undefined" in record.getMessage() for record in warned) == 1
    assert caplog.text.count("val dice undefined") == 2
    assert "(best" not in caplog.text
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["best_epoch_by"] == "last epoch"
    assert all("val/dice" not in row for row in rows(tmp_path / "run"))
    last = workflow.parser.get_parsed_content("network").state_dict()
    saved = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in last.items())


def describe(dataset: Path, **trained) -> list[str]:
    entries = json.loads((dataset / "datalist.json").read_text())["training"]
    data = [{**each, "image": str(dataset / each["image"])} for each in entries if each["fold"] == 0]
    (dataset / "model.pt").write_bytes(b"weights")
    unknown = {"dataset_dir": None, "fold": None, "leave_out": []}
    found = describe_evaluation(dataset / "model.pt", dataset, data, "validation", 0, [], {**unknown, **trained}, {})
    return [note for note in found["notes"] if "SYNTHETIC" not in note]


def test_patients_on_both_sides_are_noted(copied):
    trained = {"dataset_dir": str(copied), "fold": 0}
    unknown = "What the checkpoint was trained on is not known: metrics are better on slices that were seen."
    assert describe(copied, **trained) == []
    assert describe(copied) == [unknown]
    content = json.loads((copied / "datalist.json").read_text())
    for number, each in enumerate(content["training"]):
        each["fold"] = number % 3
    (copied / "datalist.json").write_text(json.dumps(content))
    (note,) = describe(copied, **trained)
    assert note.startswith(
        "4 of the 4 slices held out are of 4 patients or groups (P0, P1, P3, …) with other slices in"
    )
    assert note.endswith("Because of this leak, metrics on them are better than on new patients.")
    first, note = describe(copied)
    assert first == unknown
    assert note.endswith("if the checkpoint was trained on the other folds, which is not known.")
    # Trained on all other data, or on these very slices, which is another note.
    assert describe(copied, dataset_dir="/elsewhere", fold=0)[0].startswith("The checkpoint was trained on /elsewhere")
    assert any("TRAINED ON" in note for note in describe(copied, **{**trained, "fold": 1}))


def raised(outer: Exception, inner: Exception | None) -> BaseException:
    with pytest.raises(type(outer)) as caught:
        raise outer from inner
    return caught.value


@pytest.mark.parametrize(
    ("outer", "inner", "shown"),
    [
        (RuntimeError("applying transform <LoadImaged>"), UnreadableImage("empty", "/a.png"), "/a.png: empty"),
        (RuntimeError("Failed to instantiate component"), None, "Failed to instantiate component"),
        (UnusableItems("2 of 3 items can't be used:\n/a\n/b"), ValueError("a"), "UnusableItems: 2 of 3 items"),
    ],
)
def test_what_the_user_sees_last(capsys, outer, inner, shown):
    error = raised(outer, inner)
    _short_error(type(error), error, error.__traceback__)
    printed = capsys.readouterr().err
    assert shown in printed
    assert ("Traceback" in printed) == (inner is None)


def test_an_interrupt_keeps_what_is_finished_and_says_so(disc_dataset, tmp_path):
    # Ctrl+C after the second of all files.
    after_two = "$@evaluator.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: signal.raise_signal(2))"
    own = {"run": [after_two, "$kd.run_alone('evaluator', @output_dir)"]}
    own["+imports"] = ["$import signal", "$from ignite.engine import Events"]
    (tmp_path / "interrupted.json").write_text(json.dumps(own))
    configs = [*config("seg_student", "inference"), str(tmp_path / "interrupted.json")]
    options = {"input": disc_dataset / "images", "output_dir": tmp_path / "out", "batch_size": 1, "device": "cpu"}
    options |= {"checkpoint": untrained("seg_student", tmp_path / "weights"), "logging_file": False}
    command = [sys.executable, "-m", "monai.bundle", "run", "inferring", "--config_file", str(configs)]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    # Tests may run in the background of a shell, which lets their children ignore it.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, preexec_fn=heeding)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "terminating" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("stopped. A training goes on after its last finished epoch")
    states = [row["status"] for row in read_table(tmp_path / "out" / "findings.csv")]
    assert sorted(states) == ["ok"] * 2 + ["unfinished"] * (len(states) - 2)
    assert len(states) > 2
