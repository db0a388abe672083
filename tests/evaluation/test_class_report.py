"""What an evaluation of classes writes, from logits that are given."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.engines.utils import IterationEvents
from PIL import Image
from scipy.special import softmax

from monai_kd.evaluation import ClassReport
from monai_kd.handlers import ConfusionPicture
from monai_kd.metrics import class_metrics, cross_fitted_temperatures, fit_temperature

NAMES = ["meningioma", "glioma", "pituitary"]
DESCRIPTION = {
    "synthetic": True,
    "dataset": {"fold": 0, "name": "numbers", "folder": "numbers"},
    "checkpoint": {"path": "model.pt"},
}


def drawn(size: int = 60, temperature: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 3) that are too sure of themselves by ``temperature``, and classes (N,)."""
    generator = np.random.default_rng(0)
    logits = 4 * generator.normal(size=(size, 3))
    return logits, np.array([generator.choice(3, p=softmax(row / temperature)) for row in logits])


def entries(folder: Path, classes: np.ndarray, each: int = 4) -> list[dict]:
    """A data list of ``each`` slices a patient."""
    found = [
        {"image": str(folder / f"{n}.png"), "class": int(number), "source": f"{n}.mat", "fold": 0}
        | {"patient": f"P{n // each}", "group": f"P{n // each}"}
        for n, number in enumerate(classes)
    ]
    labels = {str(number + 1): name for number, name in enumerate(NAMES)}
    (folder / "datalist.json").write_text(json.dumps({"labels": labels, "training": found}))
    return found


def report(
    folder: Path,
    logits: np.ndarray,
    classes: np.ndarray,
    batch: int = 7,
    drop: int = 0,
    images: torch.Tensor | None = None,
    **kwargs,
) -> dict:
    """Run the logits through, in batches, without the last or with the first once more; gives metrics.json."""
    folder.mkdir(exist_ok=True)
    data = entries(folder, classes)
    kwargs = {"bootstrap": 20, "trained_names": NAMES, **kwargs}
    handler = ClassReport(folder / "out", folder, data, lambda: DESCRIPTION, **kwargs)

    def step(engine: Engine, rows: list[tuple[np.ndarray, int]]) -> None:
        engine.state.output = [{"pred": torch.tensor(row), "label": torch.tensor(number)} for row, number in rows]
        for number, output in enumerate(engine.state.output, batch * (engine.state.iteration - 1)):
            output |= {} if images is None else {"image": images[number]}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    engine = Engine(step)
    engine.register_events(*IterationEvents)
    handler.attach(engine)
    count = len(logits) - drop
    kept = list(zip(np.resize(logits, (count, logits.shape[1])), np.resize(classes, count).tolist(), strict=True))
    engine.run([kept[start : start + batch] for start in range(0, len(kept), batch)])
    text = (folder / "out" / "metrics.json").read_text()
    return json.loads(text, parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def values(part: dict) -> dict[str, float]:
    return {name: entry["value"] for name, entry in part["metrics"].items()}


def test_pictures_say_what_they_count(tmp_path, monkeypatch):
    saved = {}
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (saved.update({path.name: self}), path.touch()))
    report(tmp_path, *drawn())
    groups = len(table(tmp_path / "out" / "patients.csv"))
    figures = {name.split(".")[1]: figure for name, figure in saved.items()}
    for stem, counted, number in (("", "slices", 60), ("_patients", "patients", groups)):
        for kind in ("confusion", "reliability"):
            assert figures[kind + stem].get_suptitle().endswith(f"fold 0 (counted from 0): {counted}")
        upper, lower = figures["reliability" + stem].axes
        assert upper.get_title().endswith(f", {number} {counted}")
        assert lower.get_ylabel() == counted
        cells = [int(text.get_text().split()[0]) for text in figures["confusion" + stem].axes[0].texts]
        assert sum(cells) == number


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_tables_and_metrics_are_those_of_the_logits(tmp_path, temperature):
    logits, classes = drawn()
    metrics = report(tmp_path, logits, classes, temperature=temperature)
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum(axis=1, keepdims=True)
    slices = table(tmp_path / "out" / "slices.csv")
    found = np.array([[float(row[f"p_{name}"]) for name in NAMES] for row in slices])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert [row["class_name"] for row in slices] == [NAMES[number] for number in classes]
    assert [row["predicted_name"] for row in slices] == [NAMES[number] for number in logits.argmax(axis=1)]
    assert [row["image"] for row in slices][:2] == ["0.png", "1.png"]
    own = values(metrics["over_slices"])
    for name, value in class_metrics(expected, classes).items():
        assert own[name] == pytest.approx(value), name
    assert own["accuracy"] == pytest.approx((logits.argmax(axis=1) == classes).mean())
    confusion = table(tmp_path / "out" / "confusion.csv")
    assert [row["true \\ predicted"] for row in confusion] == NAMES
    for true, row in enumerate(confusion):
        counts = [int(((classes == true) & (logits.argmax(axis=1) == number)).sum()) for number in range(3)]
        assert [int(row[name]) for name in NAMES] == counts
    patients = table(tmp_path / "out" / "patients.csv")
    assert len({row["group"] for row in patients}) == 15
    assert metrics["temperature"] == temperature
    assert "calibrated" not in metrics
    own = table(tmp_path / "out" / "confusion_patients.csv")
    assert [row["true \\ predicted"] for row in own] == NAMES
    for row, true in zip(own, NAMES, strict=True):
        of_class = [patient["predicted_name"] for patient in patients if patient["class_name"] == true]
        assert [int(row[name]) for name in NAMES] == [of_class.count(name) for name in NAMES]
    for name in ("confusion", "reliability", "confusion_patients", "reliability_patients"):
        assert min(Image.open(tmp_path / "out" / f"{name}.png").size) > 100
    assert not (tmp_path / "out" / "temperature.json").exists()


def test_calibrated_numbers_come_from_temperatures_of_other_patients(tmp_path):
    logits, classes = drawn()
    metrics = report(tmp_path, logits, classes, calibrate=True, seed=4)
    groups = [f"P{number // 4}" for number in range(60)]
    others = cross_fitted_temperatures(logits, classes, groups, seed=4)
    assert len(set(others)) == 5
    expected = class_metrics(softmax(logits / others[:, None], axis=1), classes)
    found = values(metrics["calibrated"]["cross_fitted"]["over_slices"])
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
    # Not those of the one temperature that was fitted to these very slices, which is what is kept.
    whole = fit_temperature(logits, classes)
    assert metrics["calibrated"]["temperature"] == whole
    assert found["nll"] > class_metrics(softmax(logits / whole, axis=1), classes)["nll"]
    kept = json.loads((tmp_path / "out" / "temperature.json").read_text())
    assert kept == {"temperature": whole, "slices": 60, "checkpoint": {"path": "model.pt"}}
    # the plain numbers stay those of the network
    plain = values(metrics["over_slices"])
    assert plain["nll"] == pytest.approx(class_metrics(softmax(logits, axis=1), classes)["nll"])
    assert plain["accuracy"] == found["accuracy"]


@pytest.mark.parametrize(
    ("logits", "classes", "reason"),
    [
        (np.eye(3)[[0, 1, 2] * 4] * 9, [0, 1, 2] * 4, "classified correctly"),
        (drawn(12)[0], [1] * 12, "at least two classes"),
    ],
)
def test_where_no_temperature_can_be_fitted_it_is_said(tmp_path, caplog, logits, classes, reason):
    metrics = report(tmp_path, logits, np.array(classes), calibrate=True)
    assert list(metrics["calibrated"]) == ["undefined"]
    assert reason in metrics["calibrated"]["undefined"]
    assert reason in caplog.text
    assert not (tmp_path / "out" / "temperature.json").exists()


def test_a_temperature_is_kept_where_those_of_other_patients_can_not_be_fitted(tmp_path, caplog):
    logits, classes = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 1])  # one patient
    metrics = report(tmp_path, logits, classes, calibrate=True)
    whole = fit_temperature(logits, classes)
    assert metrics["calibrated"]["temperature"] == whole
    assert list(metrics["calibrated"]["cross_fitted"]) == ["undefined"]
    assert "only one" in metrics["calibrated"]["cross_fitted"]["undefined"]
    assert "only one" in caplog.text
    assert json.loads((tmp_path / "out" / "temperature.json").read_text())["temperature"] == whole


def test_constant_images_are_counted_and_named(tmp_path, caplog):
    logits, classes = drawn(12)
    images = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    report(tmp_path / "varied", logits, classes, images=images)
    assert "single value" not in caplog.text
    # As a constant image is normalised: a value for each channel.
    images[3:] = torch.tensor([-2.1, -2.0, -1.8])[:, None, None]
    report(tmp_path / "constant", logits, classes, images=images)
    assert caplog.text.count("the image of 9 of 12 slices has a single value") == 1
    assert "3.png, 4.png, 5.png, 6.png, 7.png, …. Take" in caplog.text


@pytest.mark.parametrize("calibrate", [True, False])
def test_no_temperature_of_an_earlier_run_stays(tmp_path, caplog, calibrate):
    report(tmp_path, *drawn(), calibrate=True)
    assert (tmp_path / "out" / "temperature.json").exists()
    report(tmp_path, drawn(12)[0], np.ones(12, dtype=int), calibrate=calibrate)
    assert not (tmp_path / "out" / "temperature.json").exists()
    assert "of an earlier evaluation is removed" in caplog.text


def test_one_class_leaves_metrics_undefined_and_says_why(tmp_path):
    metrics = report(tmp_path, drawn(12)[0], np.ones(12, dtype=int))
    for name in ("balanced_accuracy", "macro_f1", "auc"):
        entry = metrics["over_slices"]["metrics"][name]
        assert (entry["value"], entry["interval_95"]) == (None, None)
        assert isinstance(entry["undefined"], str)
        assert entry["undefined"]
    accuracy = metrics["over_slices"]["metrics"]["accuracy"]
    assert accuracy["value"] is not None
    assert accuracy["undefined"] is None


def test_nothing_of_an_earlier_run_stays_beside_a_failed_one(tmp_path, caplog):
    logits, classes = drawn()
    report(tmp_path, logits, classes, calibrate=True)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(written) == 10
    # of a segmentation, of somebody, and of a process that was killed
    for name in ("dice.png", "slices.csv.bak", ".slices.99999999.partial.csv"):
        (tmp_path / "out" / name).write_text("earlier")
    with pytest.raises(ValueError, match="the loader returned 59 of the 60 slices"):
        report(tmp_path, logits, classes, drop=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["slices.csv.bak"]
    for name in (*written, "dice.png"):
        assert f"{name} of an earlier evaluation is removed." in caplog.text


def test_an_evaluation_that_fails_while_it_writes_leaves_no_mixture(tmp_path, monkeypatch):
    logits, classes = drawn()
    report(tmp_path, logits, classes)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match=r"confusion\.png can't be written: No space left on device"):
        report(tmp_path, 2 * logits, classes)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["confusion.csv", "patients.csv", "slices.csv"]
    likely = table(tmp_path / "out" / "slices.csv")[0]
    assert float(likely["p_glioma"]) == pytest.approx(softmax(2 * logits[0])[1])


def test_runs_do_not_add_up(tmp_path):
    logits, classes = drawn(12)
    assert report(tmp_path, logits, classes)["over_slices"] == report(tmp_path, logits, classes)["over_slices"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trained_names": NAMES[:2]}, "trained for the classes meningioma, glioma; .* has the classes meningioma, gl"),
        (
            {"trained_names": [NAMES[1], NAMES[0], NAMES[2]]},
            "trained for the classes glioma, meningioma, pituitary; .*in this",
        ),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"logits": np.zeros((12, 4))}, r"returns logits \(4,\) for .*0\.png; the data list names 3 classes: menin"),
        ({"drop": 2}, "the loader returned 10 of the 12 slices"),
        ({"drop": -1}, "the loader returns more slices than the 12 of the data list"),
    ],
)
def test_errors(tmp_path, change, message):
    logits, classes = drawn(12)
    with pytest.raises(ValueError, match=message):
        report(tmp_path, **{"logits": logits, "classes": classes, **change})
    assert not (tmp_path / "out" / "metrics.json").exists()


def confusion_run(path: Path, best: list[bool], monkeypatch, save: bool = True) -> list[tuple]:
    """Validations of 4 slices each; gives what was drawn."""
    drawn_now = []
    monkeypatch.setattr(
        "monai_kd.handlers.confusion_picture.plot_confusion",
        lambda matrix, names, file, title: drawn_now.append((np.asarray(matrix).tolist(), names, file, title)),
    )

    def step(_engine: Engine, number: int) -> list[dict]:
        return [{"label": torch.tensor(n % 3), "pred": torch.eye(3)[(n + number) % 3]} for n in range(4)]

    for epoch, new_best in enumerate(best, 1):
        engine = Engine(step)
        ConfusionPicture(path, NAMES, save=save).attach(engine)
        engine.add_event_handler(
            Events.STARTED,
            lambda e, epoch=epoch, new_best=new_best: (
                setattr(e.state, "best_metric_epoch", 1 if new_best else 0),
                setattr(e.state, "best_metric", 0.25 * epoch),
            ),
        )
        engine.run([epoch - 1])
    return drawn_now


def test_confusion_picture_follows_the_best(tmp_path, monkeypatch):
    found = confusion_run(tmp_path / "c.png", [True, False, True], monkeypatch)
    assert [matrix for matrix, *_ in found] == [
        [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0, 0, 2], [1, 0, 0], [0, 1, 0]],
    ]
    assert found[0][1:] == (NAMES, tmp_path / "c.png", "epoch 1: accuracy 0.250")
    assert confusion_run(tmp_path / "c.png", [True], monkeypatch, save=False) == []


def test_confusion_picture_counts_the_slices_of_every_process(tmp_path, monkeypatch):
    asked = []

    def summed(matrix):  # as if another process had found twice the same
        asked.append(matrix.tolist())
        return 3 * matrix

    monkeypatch.setattr("monai_kd.handlers.confusion_picture.idist.all_reduce", summed)
    ((matrix, *_),) = confusion_run(tmp_path / "c.png", [True], monkeypatch)
    assert matrix == [[6, 0, 0], [0, 3, 0], [0, 0, 3]]
    # every process asks, at every validation, or the others wait for ever
    assert confusion_run(tmp_path / "c.png", [False], monkeypatch, save=False) == []
    assert len(asked) == 2
