"""Metrics of a classifier against numbers worked out by hand, loops over samples, MONAI and torchmetrics."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.metrics import compute_roc_auc
from torchmetrics.functional import classification as functional

from monai_kd.metrics import CLASS_METRICS, PER_CLASS_METRICS, class_metrics, confusion_matrix, per_class_metrics
from monai_kd.metrics.classes import calibration_bins, weighted_class_metrics

# 2 classes, 4 samples; predicted 0, 0, 1, 0, truth 0, 0, 1, 1.
BY_HAND = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], [0, 0, 1, 1]


def sample(seed: int, number: int = 3, size: int = 80, digits: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, C) that know something of the classes (N,); with few digits, many of them are equal."""
    generator = np.random.default_rng(seed)
    classes = generator.permutation(np.arange(size) % number)
    logits = generator.normal(size=(size, number)) + 1.2 * np.eye(number)[classes]
    if digits is not None:
        logits = logits.round(digits)
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True), classes


def reference(probabilities: np.ndarray, classes: np.ndarray) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Every metric by loops over samples and pairs of samples."""
    number, size = probabilities.shape[1], len(classes)
    predicted = [max(range(number), key=lambda c: row[c]) for row in probabilities]  # the first of equals
    each = []
    for c in range(number):
        hits = sum(p == y == c for p, y in zip(predicted, classes, strict=True))
        recall, precision = hits / sum(classes == c), hits / predicted.count(c)
        pairs = itertools.product(probabilities[classes == c, c], probabilities[classes != c, c])
        won = [1.0 if ours > theirs else 0.5 if ours == theirs else 0.0 for ours, theirs in pairs]
        f1 = 2 * recall * precision / (recall + precision) if hits else 0.0
        each.append({"recall": recall, "precision": precision, "f1": f1, "auc": sum(won) / len(won)})
    accuracy = sum(p == y for p, y in zip(predicted, classes, strict=True)) / size
    chance = sum((sum(classes == c) / size) * (predicted.count(c) / size) for c in range(number))
    error = 0.0
    for m in range(1, 16):
        inside = [i for i in range(size) if (m - 1) / 15 < probabilities[i].max() <= m / 15]
        if inside:
            right = np.mean([predicted[i] == classes[i] for i in inside])
            error += len(inside) / size * abs(right - np.mean([probabilities[i].max() for i in inside]))
    overall = {
        "accuracy": accuracy,
        "balanced_accuracy": np.mean([own["recall"] for own in each]),
        "macro_f1": np.mean([own["f1"] for own in each]),
        "auc": np.mean([own["auc"] for own in each]),
        "kappa": (accuracy - chance) / (1 - chance),
        "ece": error,
        "nll": -np.mean([np.log(probabilities[i, classes[i]]) for i in range(size)]),
    }
    return overall, each


def test_by_hand():
    metrics = class_metrics(*BY_HAND)
    assert list(metrics) == list(CLASS_METRICS)
    # Expected agreement 1/2 · 3/4 + 1/2 · 1/4 = 1/2. All four confidences lie in bins of their own.
    assert metrics == pytest.approx(
        {
            "accuracy": 3 / 4,
            "balanced_accuracy": (1 + 1 / 2) / 2,
            "macro_f1": (4 / 5 + 2 / 3) / 2,
            "auc": 3 / 4,
            "kappa": (3 / 4 - 1 / 2) / (1 - 1 / 2),
            "ece": (0.1 + 0.4 + 0.2 + 0.7) / 4,
            "nll": -np.log(0.9 * 0.6 * 0.8 * 0.3) / 4,
        }
    )
    zero, one = per_class_metrics(*BY_HAND)
    assert list(zero) == list(PER_CLASS_METRICS)
    assert zero == pytest.approx({"recall": 1, "precision": 2 / 3, "f1": 4 / 5, "auc": 3 / 4})
    assert one == pytest.approx({"recall": 1 / 2, "precision": 1, "f1": 2 / 3, "auc": 3 / 4})


@pytest.mark.parametrize(
    ("number", "size", "digits"),
    [(2, 40, None), (3, 80, None), (3, 80, 0), (5, 61, 1)],
    ids=["two-classes", "three-classes", "many-ties", "five-classes"],
)
@pytest.mark.parametrize("seed", range(3))
def test_equals_loops(seed, number, size, digits):
    probabilities, classes = sample(seed, number, size, digits)
    overall, each = reference(probabilities, classes)
    assert class_metrics(probabilities, classes) == pytest.approx(overall)
    for own, expected in zip(per_class_metrics(probabilities, classes), each, strict=True):
        assert own == pytest.approx(expected)


@pytest.mark.parametrize("digits", [None, 0], ids=["no-ties", "ties"])
def test_auc_equals_monai(digits):
    probabilities, classes = sample(4, digits=digits)
    scores, one_hot = torch.from_numpy(probabilities), torch.eye(3)[torch.from_numpy(classes)]
    assert class_metrics(probabilities, classes)["auc"] == pytest.approx(float(compute_roc_auc(scores, one_hot)))
    expected = compute_roc_auc(scores, one_hot, average="none")
    assert [own["auc"] for own in per_class_metrics(probabilities, classes)] == pytest.approx(list(expected))


def test_equals_torchmetrics():
    probabilities, classes = sample(5, size=200)
    metrics, given = class_metrics(probabilities, classes), (torch.from_numpy(probabilities), torch.from_numpy(classes))
    expected = {
        "accuracy": functional.multiclass_accuracy(*given, 3, average="micro"),
        "balanced_accuracy": functional.multiclass_accuracy(*given, 3, average="macro"),
        "macro_f1": functional.multiclass_f1_score(*given, 3, average="macro"),
        "auc": functional.multiclass_auroc(*given, 3, average="macro"),
        "kappa": functional.multiclass_cohen_kappa(*given, 3),
        "ece": functional.multiclass_calibration_error(*given, 3, n_bins=15, norm="l1"),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-5
    )
    matrix = confusion_matrix(classes, probabilities.argmax(axis=1), 3)
    assert matrix.tolist() == functional.multiclass_confusion_matrix(*given, 3).tolist()


def test_a_perfect_classifier():
    classes = np.array([0, 1, 2, 2, 1])
    metrics = class_metrics(np.eye(3)[classes], classes)
    assert metrics == {**dict.fromkeys(CLASS_METRICS, 1.0), "ece": 0.0, "nll": 0.0}
    assert not np.signbit(metrics["nll"])
    assert per_class_metrics(np.eye(3)[classes], classes) == [dict.fromkeys(PER_CLASS_METRICS, 1.0)] * 3


def test_a_classifier_that_knows_nothing():
    classes = np.arange(12) % 3
    metrics = class_metrics(np.full((12, 3), 1 / 3), classes)
    assert metrics == pytest.approx(
        {
            "accuracy": 1 / 3,
            "balanced_accuracy": 1 / 3,
            "macro_f1": 1 / 6,  # 1/2 for the class that is always said, 0 for the others
            "auc": 1 / 2,
            "kappa": 0,
            "ece": 0,
            "nll": np.log(3),
        }
    )


def test_always_wrong_has_a_kappa_below_zero():
    # Two classes, always swapped: no agreement where 1/2 would be chance.
    metrics = class_metrics([[0, 1], [1, 0]], [0, 1])
    assert (metrics["kappa"], metrics["auc"], metrics["ece"]) == (-1.0, 0.0, 1.0)
    # All of one class, all called the other: chance would not agree either.
    assert class_metrics([[0.1, 0.9]] * 2, [0, 0])["kappa"] == 0


@pytest.mark.parametrize("order", [[1, 2, 0], [2, 1, 0]])
def test_the_order_of_the_classes_does_not_matter(order):
    probabilities, classes = sample(6)
    moved = probabilities[:, order], np.argsort(order)[classes]
    assert class_metrics(*moved) == pytest.approx(class_metrics(probabilities, classes))
    each = per_class_metrics(probabilities, classes)
    for own, number in zip(per_class_metrics(*moved), order, strict=True):
        assert own == pytest.approx(each[number])


@pytest.mark.parametrize("digits", [None, 0], ids=["no-ties", "ties"])
def test_a_weight_is_a_number_of_repetitions(digits):
    probabilities, classes = sample(7, digits=digits)
    weights = np.random.default_rng(7).integers(0, 4, len(classes))
    assert (weights == 0).any()
    repeated = np.repeat(probabilities, weights, axis=0), np.repeat(classes, weights)
    plain = class_metrics(*repeated)
    assert class_metrics(probabilities, classes, weights) == pytest.approx(plain)
    assert class_metrics(probabilities, classes, weights / 7) == pytest.approx(plain)
    assert plain != pytest.approx(class_metrics(probabilities, classes))
    each = per_class_metrics(probabilities, classes, weights)
    for own, expected in zip(each, per_class_metrics(*repeated), strict=True):
        assert own == pytest.approx(expected)


def test_many_weightings_at_once_equal_one_after_the_other():
    probabilities, classes = sample(8, size=20)
    weights = np.random.default_rng(8).integers(0, 2, (30, 20))
    overall, each = weighted_class_metrics(probabilities, classes, weights)
    for number, row in enumerate(weights):
        expected = class_metrics(probabilities, classes, row)
        assert {name: values[number] for name, values in overall.items()} == pytest.approx(
            {name: np.nan if value is None else value for name, value in expected.items()}, nan_ok=True
        )
        for c, own in enumerate(per_class_metrics(probabilities, classes, row)):
            assert {name: values[number, c] for name, values in each.items()} == pytest.approx(
                {name: np.nan if value is None else value for name, value in own.items()}, nan_ok=True
            )


MEANS = {"balanced_accuracy", "macro_f1", "auc"}


@pytest.mark.parametrize(
    ("probabilities", "classes", "weights", "undefined"),
    [
        pytest.param([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]], [0, 1], None, MEANS, id="class-without-samples"),
        pytest.param([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1]], [0, 0], None, MEANS, id="one-class"),
        pytest.param([[0.8, 0.2], [0.7, 0.3]], [0, 0], None, MEANS | {"kappa"}, id="one-class-and-always-right"),
        pytest.param([[0.8, 0.2], [0.3, 0.7]], [0, 1], [0.1, 0], MEANS | {"kappa"}, id="one-class-by-weight"),
        pytest.param([[0.9, 0.1], [0.2, 0.8]], [0, 1], [0.1, 0.7], set(), id="everything-defined"),
        pytest.param([[1.0, 0.0], [1.0, 0.0]], [0, 1], None, {"nll"}, id="truth-of-probability-0"),
        pytest.param([[1.0, 0.0], [0.2, 0.8], [1, 0]], [0, 1, 1], [1, 1, 0], set(), id="probability-0-of-weight-0"),
    ],
)
def test_undefined_is_none_for_a_named_reason(probabilities, classes, weights, undefined, recwarn):
    metrics = class_metrics(probabilities, classes, weights)
    assert {name for name, value in metrics.items() if value is None} == undefined
    assert all(CLASS_METRICS[name] for name in undefined)
    assert all(np.isfinite(value) for value in metrics.values() if value is not None)
    assert not recwarn.list


def test_undefined_of_one_class():
    # Class 1 is never predicted, class 2 does not occur, class 3 does neither.
    probabilities = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.7, 0.1, 0.1, 0.1]]
    zero, one, two, three = per_class_metrics(probabilities, [0, 0, 1])
    assert None not in zero.values()
    assert one == {"recall": 0.0, "precision": None, "f1": 0.0, "auc": 0.5}
    assert two == {"recall": None, "precision": 0.0, "f1": None, "auc": None}
    assert three == dict.fromkeys(PER_CLASS_METRICS)
    # Everything belongs to class 0: there is no rest to tell it from.
    alone, _ = per_class_metrics([[0.8, 0.2], [0.3, 0.7]], [0, 0])
    assert alone == pytest.approx({"recall": 0.5, "precision": 1.0, "f1": 2 / 3, "auc": None})


def test_a_border_belongs_to_the_bin_below():
    assert calibration_bins(np.arange(16) / 15).tolist() == [0, *range(15)]
    above = np.nextafter(np.arange(15) / 15, 1)
    assert calibration_bins(above).tolist() == list(range(15))
    # 0.6 = 9/15 is alone in its bin, or its gap would cancel with that of 0.65.
    assert class_metrics([[0.6, 0.4], [0.65, 0.35]], [0, 1])["ece"] == pytest.approx((0.4 + 0.65) / 2)


def test_confusion_has_the_truth_in_rows():
    matrix = confusion_matrix([0, 0, 0, 1, 2], [0, 1, 1, 1, 0], 3)
    assert matrix.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]
    assert np.issubdtype(matrix.dtype, np.integer)
    weighted = confusion_matrix([0, 0, 0, 1, 2], [0, 1, 1, 1, 0], 3, [1, 2, 0.5, 0, 3])
    assert weighted.tolist() == [[1, 2.5, 0], [0, 0, 0], [3, 0, 0]]
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


GOOD = [[0.5, 0.5], [0.2, 0.8]]


@pytest.mark.parametrize(
    ("probabilities", "classes", "weights", "match"),
    [
        pytest.param([0.5, 0.5], [0, 1], None, r"\(N, C\)", id="one-axis"),
        pytest.param([[1.0], [1.0]], [0, 0], None, "C ≥ 2", id="one-class"),
        pytest.param(np.zeros((0, 2)), [], None, "N ≥ 1", id="nothing"),
        pytest.param(GOOD, [0, 1, 1], None, "one class and one weight", id="too-many-classes"),
        pytest.param(GOOD, [[0, 1]], None, r"classes must be \(N,\)", id="classes-of-two-axes"),
        pytest.param(GOOD, [0, 1], [1], "one class and one weight", id="too-few-weights"),
        pytest.param(GOOD, [0, 2], None, r"0 … 1, got 0 … 2", id="class-too-high"),
        pytest.param(GOOD, [-1, 1], None, r"0 … 1, got -1 … 1", id="class-below-0"),
        pytest.param(GOOD, [0.0, 1.0], None, "whole numbers", id="classes-not-whole"),
        pytest.param([[0.5, 0.4], [0.2, 0.8]], [0, 1], None, "sum to 1", id="sum-below-1"),
        pytest.param([[1.5, -0.5], [0.2, 0.8]], [0, 1], None, "not be negative", id="negative"),
        pytest.param([[float("nan"), 0.5], [0.2, 0.8]], [0, 1], None, "not finite", id="nan"),
        pytest.param(GOOD, [0, 1], [0, 0], "not all 0", id="no-weight"),
        pytest.param(GOOD, [0, 1], [2, -1], "not negative", id="negative-weight"),
        pytest.param(GOOD, [0, 1], [1, float("inf")], "finite", id="infinite-weight"),
    ],
)
@pytest.mark.parametrize("function", [class_metrics, per_class_metrics])
def test_bad_arguments(function, probabilities, classes, weights, match):
    with pytest.raises(ValueError, match=match):
        function(probabilities, classes, weights)


@pytest.mark.parametrize(
    ("classes", "predicted", "weights", "match"),
    [
        ([0, 1], [0], None, "one length"),
        ([0, 1], [0, 1], [1], "one length"),
        ([0, 2], [0, 1], None, "classes must lie in 0 … 1"),
        ([0, 1], [0, -1], None, "predicted must lie in 0 … 1"),
        ([0, 1], [0.2, 0.8], None, "predicted must be whole"),
        ([0, 1], [0, 1], [1, -1], "not negative"),
    ],
)
def test_bad_confusion(classes, predicted, weights, match):
    with pytest.raises(ValueError, match=match):
        confusion_matrix(classes, predicted, 2, weights)
