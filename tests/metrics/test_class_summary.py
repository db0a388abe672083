"""From slices to patients and intervals: numbers worked out by hand, and a bootstrap by copying rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import softmax

from monai_kd.metrics import (
    CLASS_METRICS,
    PER_CLASS_METRICS,
    bootstrap_interval,
    class_metrics,
    class_patient_rows,
    class_summary_table,
    rows_of_kinds,
    summarise_classes,
)

NAMES = ["meningioma", "glioma", "pituitary"]


def test_kinds_are_what_a_softmax_of_their_logits_alone_says():
    generator = np.random.default_rng(0)
    names = ["meningioma", "no tumour", "glioma", "pituitary"]  # "no tumour" need not be the last one
    logits, classes = generator.normal(size=(40, 4)), generator.integers(0, 4, size=40)
    rows = []
    for own, number in zip(softmax(logits, axis=1), classes, strict=True):
        best = int(own.argmax())
        told = {"class": int(number), "class_name": names[number], "predicted": best, "predicted_name": names[best]}
        shown = {f"p_{name}": value for name, value in zip(names, own, strict=True)}
        rows.append({"group": "1", "patient": "1", "fold": 0, **told, "correct": best == number, **shown})
    found = rows_of_kinds(rows, "no tumour")
    kept = classes != 1
    expected = softmax(logits[kept][:, [0, 2, 3]], axis=1)
    assert np.array([[each[f"p_{name}"] for name in NAMES] for each in found]) == pytest.approx(expected)
    assert [each["class"] for each in found] == [(0, None, 1, 2)[number] for number in classes[kept]]
    assert [each["predicted"] for each in found] == expected.argmax(axis=1).tolist()
    assert all(each["correct"] == (each["class_name"] == each["predicted_name"]) for each in found)
    assert summarise_classes(found, NAMES, 0, 0)["over_slices"]["count"] == kept.sum()
    certain = {**rows[0], "class_name": "glioma", "p_no tumour": 1.0, **{f"p_{name}": 0.0 for name in NAMES}}
    assert [rows_of_kinds([certain], "no tumour")[0][f"p_{name}"] for name in NAMES] == pytest.approx([1 / 3] * 3)


def row(group: str, kind: int, probabilities: list[float], patient: str = "", fold: int = 0) -> dict:
    predicted = int(np.argmax(probabilities))
    return {
        **{"source": "1.mat", "image": "0001.nii.gz", "class": kind, "class_name": NAMES[kind]},
        **{"patient": patient or group, "group": group, "fold": fold},
        **{"predicted": predicted, "predicted_name": NAMES[predicted], "correct": predicted == kind},
        **{f"p_{name}": value for name, value in zip(NAMES, probabilities, strict=True)},
    }


# One person with two numbers and one wrong slice of three, one with slices of two classes, one of whom all are wrong.
ROWS = [
    row("7", 0, [0.9, 0.1, 0.0], patient="7"),
    row("8", 1, [0.2, 0.7, 0.1], fold=1),
    row("7", 0, [0.4, 0.5, 0.1], patient="7A"),
    row("8", 2, [0.1, 0.1, 0.8], fold=1),
    row("7", 0, [0.5, 0.3, 0.2], patient="7"),
    row("9", 1, [0.6, 0.3, 0.1]),
]


def many(seed: int, groups: int = 40) -> list[dict]:
    """1 to 6 slices of each of many people, in no order."""
    generator = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        # What a person has in common makes slices resemble each other.
        common = generator.normal(size=3) + 1.5 * np.eye(3)[group % 3]
        for _ in range(generator.integers(1, 7)):
            odds = np.exp(common + 0.5 * generator.normal(size=3))
            rows.append(row(f"g{group}", group % 3, (odds / odds.sum()).tolist()))
    return [rows[i] for i in generator.permutation(len(rows))]


def value_of(rows: list[dict]) -> dict[str, float | None]:
    return class_metrics([[each[f"p_{name}"] for name in NAMES] for each in rows], [each["class"] for each in rows])


def test_a_patient_is_a_group_of_one_class():
    seven, eight, other_eight, nine = class_patient_rows(ROWS)
    assert (seven["group"], seven["patients"], seven["fold"], seven["slices"]) == ("7", "7;7A", "0", 3)
    assert [seven[f"p_{name}"] for name in NAMES] == pytest.approx([1.8 / 3, 0.9 / 3, 0.3 / 3])
    assert (seven["class"], seven["class_name"], seven["predicted_name"]) == (0, "meningioma", "meningioma")
    assert [each["group"] for each in (eight, other_eight)] == ["8", "8"]
    assert [each["class_name"] for each in (eight, other_eight)] == ["glioma", "pituitary"]
    assert [each["correct"] for each in (seven, eight, other_eight, nine)] == [True, True, True, False]
    assert (nine["predicted"], nine["predicted_name"]) == (0, "meningioma")


def test_the_mean_probability_decides_not_the_majority():
    rows = [row("1", 1, [0.55, 0.45, 0.0]), row("1", 1, [0.55, 0.45, 0.0]), row("1", 1, [0.1, 0.9, 0.0])]
    assert [each["correct"] for each in rows] == [False, False, True]
    assert class_patient_rows(rows)[0]["correct"] is True


def test_values_over_slices_and_over_patients():
    summary = summarise_classes(ROWS, NAMES, resamples=50, seed=0)
    slices, patients = summary["over_slices"], summary["over_patients"]
    assert (slices["count"], patients["count"]) == (6, 4)
    assert slices["metrics"]["accuracy"]["value"] == pytest.approx(4 / 6)
    assert patients["metrics"]["accuracy"]["value"] == pytest.approx(3 / 4)
    assert slices["confusion"] == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert patients["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert {name: part["count"] for name, part in slices["classes"].items()} == dict(zip(NAMES, (3, 2, 1), strict=True))
    assert slices["classes"]["meningioma"]["recall"] == pytest.approx(2 / 3)
    assert patients["classes"]["meningioma"]["precision"] == pytest.approx(1 / 2)
    for rows, part in ((ROWS, slices), (class_patient_rows(ROWS), patients)):
        assert {name: entry["value"] for name, entry in part["metrics"].items()} == value_of(rows)


def test_equals_a_bootstrap_that_copies_the_rows_of_the_drawn_groups():
    rows, resamples = many(1, groups=6), 200
    summary = summarise_classes(rows, NAMES, resamples, seed=3)
    for part, own in (("over_slices", rows), ("over_patients", class_patient_rows(rows))):
        groups = list(dict.fromkeys(each["group"] for each in own))
        drawn = np.random.default_rng(3).integers(6, size=(resamples, 6))
        found = [value_of([each for i in line for each in own if each["group"] == groups[i]]) for line in drawn]
        for name, entry in summary[part]["metrics"].items():
            defined = [values[name] for values in found if values[name] is not None]
            assert entry["resamples_undefined"] == resamples - len(defined)
            assert entry["interval_95"] == pytest.approx(list(np.percentile(defined, [2.5, 97.5])))
        # A test of the leaving out needs something that is left out.
        assert 0 < summary[part]["metrics"]["auc"]["resamples_undefined"] < resamples
        assert summary[part]["metrics"]["accuracy"]["resamples_undefined"] == 0


def test_draws_the_groups_that_the_interval_of_a_mean_draws():
    rows = many(2)
    groups: dict[str, list[bool]] = {}
    for each in rows:
        groups.setdefault(each["group"], []).append(each["correct"])
    expected = bootstrap_interval([sum(own) for own in groups.values()], [len(own) for own in groups.values()], 300, 5)
    found = summarise_classes(rows, NAMES, 300, seed=5)["over_slices"]["metrics"]["accuracy"]["interval_95"]
    assert found == pytest.approx(list(expected))


def test_intervals_hold_the_value_and_depend_on_the_seed_only():
    rows = many(3)
    first = summarise_classes(rows, NAMES, 400, seed=1)
    assert first == summarise_classes(rows, NAMES, 400, seed=1)
    other = summarise_classes(rows, NAMES, 400, seed=2)
    for part in ("over_slices", "over_patients"):
        for name, entry in first[part]["metrics"].items():
            low, high = entry["interval_95"]
            assert low < high
            if name != "ece":  # drawing adds to it
                assert low < entry["value"] < high
        assert first[part]["metrics"]["nll"] != other[part]["metrics"]["nll"]


def test_slices_of_one_patient_are_drawn_together():
    # Every second person is wrong throughout. Nine equal slices bear no more than one.
    people = [row(str(i), i % 2, [0.8, 0.1, 0.1]) for i in range(100)]
    repeated = [each for each in people for _ in range(9)]
    alone = [{**each, "group": str(number)} for number, each in enumerate(repeated)]

    def width(rows):
        low, high = summarise_classes(rows, NAMES, 1000, 0)["over_slices"]["metrics"]["accuracy"]["interval_95"]
        return high - low

    assert width(repeated) == width(people)
    assert width(repeated) / width(alone) == pytest.approx(3, rel=0.15)


def test_memory_is_bounded_for_many_resamples(monkeypatch):
    rows = many(4, groups=7)
    whole = summarise_classes(rows, NAMES, 100, seed=0)
    monkeypatch.setattr("monai_kd.metrics.class_summary._WEIGHTS_AT_ONCE", 3 * len(rows))
    assert summarise_classes(rows, NAMES, 100, seed=0) == whole


def test_undefined_has_a_reason_and_no_interval():
    rows = [each for each in many(5) if each["class"] != 2] + [row("zero", 0, [0.0, 0.4, 0.6])]
    part = summarise_classes(rows, NAMES, 60, seed=0)["over_slices"]
    for name in ("balanced_accuracy", "macro_f1", "auc"):
        reason = "a class has no samples"
        expected = {"value": None, "interval_95": None, "undefined": reason, "resamples_undefined": 60}
        assert part["metrics"][name] == expected
    # Many resamples miss the slice of infinite loss: they say nothing about data that contain it.
    nll = part["metrics"]["nll"]
    assert (nll["value"], nll["interval_95"], nll["undefined"]) == (None, None, "a true class has probability 0")
    assert 0 < nll["resamples_undefined"] < 60
    assert part["metrics"]["accuracy"]["undefined"] is None
    assert part["classes"]["pituitary"]["count"] == 0
    assert part["classes"]["pituitary"]["recall"] is None


@pytest.mark.parametrize(("rows", "resamples"), [(ROWS, 0), (ROWS[:1], 50)], ids=["no-resamples", "one-group"])
def test_no_interval_where_nothing_can_be_said(rows, resamples):
    for part in summarise_classes(rows, NAMES, resamples, seed=0).values():
        for entry in part["metrics"].values():
            assert (entry["interval_95"], entry["resamples_undefined"]) == (None, 0)


def test_is_strict_json():
    text = json.dumps(summarise_classes(ROWS[:4], NAMES, 10, seed=0), allow_nan=False)
    assert json.loads(text)["over_slices"]["confusion"][0] == [1, 1, 0]


@pytest.mark.parametrize(
    ("rows", "names", "match"),
    [
        ([], NAMES, "no slices"),
        (ROWS, NAMES[:2], "not the classes"),
        (ROWS, NAMES[::-1], "not the classes"),
        ([*ROWS, {**ROWS[0], "class": 3}], NAMES, "classes must lie in 0 … 2"),
        ([*ROWS, {**ROWS[0], "p_glioma": 0.9}], NAMES, "sum to 1"),
    ],
    ids=["no-rows", "other-classes", "other-order", "class-too-high", "no-probabilities"],
)
def test_bad_rows(rows, names, match):
    with pytest.raises(ValueError, match=match):
        summarise_classes(rows, names, 10, 0)


def test_table_names_everything_and_says_what_is_undefined():
    lines = class_summary_table(summarise_classes(ROWS, NAMES, resamples=50, seed=0)).splitlines()
    assert lines[1].split() == ["count", "6", "4"]
    for metric in CLASS_METRICS:
        assert sum(line.split(" ")[0] == metric for line in lines) == 1
    for metric in PER_CLASS_METRICS:
        assert sum(line.startswith(f"  {metric} ") for line in lines) == len(NAMES)
    accuracy = next(line for line in lines if line.startswith("accuracy"))
    assert accuracy.split()[1] == "0.667"
    assert accuracy.count("[") == 2
    counts = [line.split()[-2:] for line in lines if line.startswith("  predicted as glioma")]
    assert counts == [["1", "0"], ["1", "1"], ["0", "0"]]
    # Three groups of three classes: most resamples lack one.
    assert next(line for line in lines if line.startswith("auc")).endswith(")")
    without = class_summary_table(summarise_classes(ROWS[:3], NAMES, resamples=0, seed=0)).splitlines()
    assert next(line for line in without if line.startswith("auc")).count("undefined: a class has no samples") == 2
    assert sum(line.split()[:2] == ["recall", "undefined"] for line in without) == 1
