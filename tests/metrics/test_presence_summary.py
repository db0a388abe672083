import numpy as np
import pytest

from monai_kd.metrics import SliceMarks, froc_curve, presence_table, summarise_class_presence, summarise_presence


def row(group: str, truth: float, predicted: float, score: float, false_area: float = 0.0) -> dict:
    areas = {"truth_area_mm2": truth, "predicted_area_mm2": predicted, "false_area_mm2": false_area}
    return {"group": group, **areas, "presence_max": score}


# Four patients: A with a tumour, found in one of two slices; B with one, missed; C healthy with one false mark on three
# slices; D healthy and clean.
ROWS = [
    *(row("A", 50, 40, 0.9), row("A", 20, 0, 0.4), row("A", 0, 10, 0.6, 10)),
    *(row("B", 30, 0, 0.3), row("B", 0, 0, 0.1)),
    *(row("C", 0, 8, 0.7, 8), row("C", 0, 0, 0.2), row("C", 0, 0, 0.2)),
    row("D", 0, 0, 0.1),
]
MARKS = [
    *(SliceMarks((0.9,), (), 0), SliceMarks((0.0,), (), 0), SliceMarks((), (0.6,), 5)),
    *(SliceMarks((0.0,), (), 0), SliceMarks((), (), 0)),
    *(SliceMarks((), (0.7,), 4), SliceMarks((), (), 0), SliceMarks((), (), 0)),
    SliceMarks((), (), 0),
]


def summary(resamples: int = 200) -> dict:
    found = summarise_presence(ROWS, MARKS, ["max"], resamples, 0)
    assert found is not None
    return found


def test_counted_by_hand():
    found = summary()
    assert (found["slices_with_tumour"], found["tumour_free_slices"]) == (3, 6)
    values = {
        ("sensitivity", "by_slice"): (1 / 3, 3),
        ("sensitivity", "by_examination"): (1 / 2, 2),
        ("specificity", "by_slice"): (4 / 6, 6),
        ("specificity", "by_examination"): (1 / 2, 2),
        ("false_marks", "tumour_free_slices"): (2 / 6, 6),
        ("false_marks", "all_slices"): (2 / 9, 9),
        ("false_area_mm2", "tumour_free_slices"): (18 / 6, 6),
        ("false_area_mm2", "all_slices"): (18 / 9, 9),
    }
    for (name, over), (value, of) in values.items():
        assert found[name][over]["value"] == pytest.approx(value), (name, over)
        assert found[name][over]["of"] == of
    # Pairs of a slice with (0.9, 0.4, 0.3) and one without (0.6, 0.1, 0.7, 0.2, 0.2, 0.1): 6 + 4 + 4 of 18 in order.
    assert found["auc"]["max"]["value"] == pytest.approx(14 / 18)
    # All three slices with a tumour must be marked for 90 %: from 0.3 on, which two of six without reach.
    at = found["specificity_at_sensitivity_0.9"]["max"]
    assert (at["value"], at["of"]) == (pytest.approx(4 / 6), 6)
    # One of three lesions at any rate, with the threshold above both false marks.
    assert found["froc"]["score"] == {
        "value": pytest.approx(1 / 3),
        "interval_95": found["froc"]["score"]["interval_95"],
        "of": 3,
    }


def class_row(each: dict) -> dict:
    """What a classifier says that marks the same slices with the same scores."""
    true, predicted = ("glioma" if each[f"{name}_area_mm2"] else "none" for name in ("truth", "predicted"))
    scores = {"p_glioma": each["presence_max"], "p_none": 1 - each["presence_max"]}
    return {"group": each["group"], "class_name": true, "predicted_name": predicted, **scores}


def test_a_class_for_no_tumour_is_measured_as_masks_are():
    of_masks, of_classes = summary(), summarise_class_presence([class_row(each) for each in ROWS], "none", 200, 0)
    assert of_classes is not None
    area = of_classes.pop("auc")["p_tumour"]
    assert area == of_masks["auc"]["max"]
    at = of_classes.pop("specificity_at_sensitivity_0.9")["p_tumour"]
    assert at == of_masks["specificity_at_sensitivity_0.9"]["max"]
    assert of_classes == {name: of_masks[name] for name in of_classes}
    assert set(of_classes) == {"slices_with_tumour", "tumour_free_slices", "sensitivity", "specificity"}
    assert "specificity by examination" in presence_table({**of_classes, "auc": {"p_tumour": area}})
    assert summarise_class_presence([class_row(ROWS[0])], "none", 0, 0) is None


def test_curve_counted_by_hand():
    rates, found = froc_curve([SliceMarks((0.9, 0.5), (0.7,), 1), SliceMarks((0.6,), (0.4, 0.3), 2)])
    assert rates.tolist() == [0, 0, 0.5, 0.5, 0.5, 1, 1.5]
    assert found.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 1, 1, 1])


def test_intervals_are_those_of_resampled_patients():
    """Against a slow bootstrap that puts the slices of the drawn patients together and counts again."""
    resamples = 400
    found = summary(resamples)
    groups = {name: [i for i, each in enumerate(ROWS) if each["group"] == name] for name in "ABCD"}
    generator = np.random.default_rng(0)
    aucs, frocs, at_rates, specificities = [], [], [], []
    for drawn in generator.integers(4, size=(resamples, 4)):
        chosen = [(f"{place}", i) for place, index in enumerate(drawn) for i in list(groups.values())[index]]
        again = summarise_presence(
            [{**ROWS[i], "group": g} for g, i in chosen], [MARKS[i] for _, i in chosen], ["max"], 0, 0
        )
        if again is not None and again["slices_with_tumour"]:
            aucs.append(again["auc"]["max"]["value"])
            frocs.append(again["froc"]["score"]["value"])
            at_rates.append(again["froc"]["sensitivity_at"]["0.25"]["value"])
            specificities.append(again["specificity_at_sensitivity_0.9"]["max"]["value"])
    for values, interval in (
        (aucs, found["auc"]["max"]),
        (frocs, found["froc"]["score"]),
        (at_rates, found["froc"]["sensitivity_at"]["0.25"]),
        (specificities, found["specificity_at_sensitivity_0.9"]["max"]),
    ):
        assert interval["interval_95"] == pytest.approx(np.quantile(values, [0.025, 0.975]).tolist(), abs=0.02)


def test_no_intervals_without_resamples_and_none_where_nothing_is_defined():
    assert summary(0)["auc"]["max"]["interval_95"] is None
    assert summarise_presence(ROWS[:2], MARKS[:2], ["max"], 100, 0) is None
    free = summarise_presence(ROWS[-1:], MARKS[-1:], ["max"], 100, 0)
    assert free is not None
    assert free["sensitivity"]["by_slice"] == {"value": None, "interval_95": None, "of": 0}
    assert free["auc"]["max"]["value"] is free["froc"]["score"]["value"] is None


def test_table():
    table = presence_table(summary())
    assert "specificity by slice" in table
    assert "0.667" in table
