"""Temperature scaling: closed forms, a search over a grid, and the data that determine no temperature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from monai_kd.metrics import class_metrics, fit_temperature


def drawn(temperature: float, size: int = 400, number: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, C), and classes (N,) drawn from softmax(logits / temperature)."""
    generator = np.random.default_rng(seed)
    logits = 3 * generator.normal(size=(size, number))
    chances = softmax(logits / temperature, axis=1)
    return logits, np.array([generator.choice(number, p=row) for row in chances])


def loss(logits: np.ndarray, classes: np.ndarray, temperature: float) -> float:
    return -log_softmax(logits / temperature, axis=1)[np.arange(len(classes)), classes].mean()


@pytest.mark.parametrize("margin", [0.3, 2.0, 40.0])
@pytest.mark.parametrize("right", [6, 9])
def test_closed_form(margin, right):
    # `right` of 10 are right, all by one margin m: best is exp(m / T) = right / wrong.
    classes = np.array([0, 1] * 5)
    logits = margin * np.eye(2)[np.where(np.arange(10) < right, classes, 1 - classes)]
    assert fit_temperature(logits, classes) == pytest.approx(margin / np.log(right / (10 - right)))


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_best_of_a_grid(seed):
    logits, classes = drawn(2.0, size=150, seed=seed)
    grid = np.geomspace(0.5, 8, 4001)
    best = grid[np.argmin([loss(logits, classes, each) for each in grid])]
    assert fit_temperature(logits, classes) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_the_classes_were_drawn_with(temperature):
    assert fit_temperature(*drawn(temperature, size=6000)) == pytest.approx(temperature, rel=0.08)


def test_scaled_and_shifted_logits():
    logits, classes = drawn(2.0)
    fitted = fit_temperature(logits, classes)
    assert fit_temperature(5 * logits, classes) == pytest.approx(5 * fitted)
    shifts = 1e3 * np.random.default_rng(1).normal(size=(len(logits), 1))
    assert fit_temperature(logits + shifts, classes) == pytest.approx(fitted)
    assert fit_temperature(logits[:, [2, 0, 1]], np.array([1, 2, 0])[classes]) == pytest.approx(fitted)


def test_mends_the_calibration_and_leaves_the_answers():
    logits, classes = drawn(3.0, size=2000)
    before = class_metrics(softmax(logits, axis=1), classes)
    after = class_metrics(softmax(logits / fit_temperature(logits, classes), axis=1), classes)
    assert after["nll"] < before["nll"]
    assert after["ece"] < 0.2 * before["ece"]
    assert after["accuracy"] == before["accuracy"]


RIGHT = np.eye(2)[[0, 1, 1]]


@pytest.mark.parametrize(
    ("logits", "classes", "match"),
    [
        pytest.param(RIGHT, [0, 1, 1], "classified correctly", id="all-right"),
        pytest.param(1e-3 * RIGHT, [0, 1, 1], "classified correctly", id="all-right-by-little"),
        pytest.param(5e3 * RIGHT, [0, 1, 1], "classified correctly", id="all-right-by-far"),
        pytest.param(RIGHT, [1, 0, 0], "no better than chance", id="all-wrong"),
        pytest.param(np.eye(2)[[0, 1, 0, 1]], [0, 0, 1, 1], "no better than chance", id="half-right"),
        pytest.param(np.zeros((3, 2)), [0, 1, 1], "no better than chance", id="all-equal"),
        pytest.param(RIGHT, [1, 1, 1], "two classes at least", id="one-class"),
        pytest.param(np.zeros((0, 2)), [], "two classes at least", id="nothing"),
        pytest.param(RIGHT, [0, 1], r"\(N, C\)", id="too-few-classes"),
        pytest.param(RIGHT[0], [0, 1], r"\(N, C\)", id="one-axis"),
        pytest.param(RIGHT, [0, 1, 2], "0 … 1", id="class-too-high"),
        pytest.param(RIGHT, [0, 1, -1], "0 … 1", id="class-below-0"),
        pytest.param(RIGHT, [0.0, 1.0, 1.0], "whole numbers", id="classes-not-whole"),
        pytest.param([[0.0, np.inf], [1, 0]], [0, 1], "not finite", id="infinite"),
    ],
)
def test_where_no_temperature_can_be_found(logits, classes, match, recwarn):
    with pytest.raises(ValueError, match=match):
        fit_temperature(logits, classes)
    assert not recwarn.list
