"""Temperature scaling: closed forms, a search over a grid, and the data that determine no temperature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from monai_kd.metrics import class_metrics, cross_fitted_temperatures, fit_temperature


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
        pytest.param(RIGHT, [1, 1, 1], "at least two classes", id="one-class"),
        pytest.param(np.zeros((0, 2)), [], "at least two classes", id="nothing"),
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


def patients(size: int, each: int = 10) -> list[str]:
    return [f"P{number // each}" for number in range(size)]


@pytest.mark.parametrize("parts", [2, 5])
def test_no_temperature_is_fitted_to_its_own_patient(parts):
    logits, classes = drawn(2.0, size=200)
    groups = patients(200)
    found = cross_fitted_temperatures(logits, classes, groups, seed=0, parts=parts)
    # Every slice of P3 is made surer: its own temperatures stay, bit for bit, and others move.
    own = np.array(groups) == "P3"
    surer = np.where(own[:, None], 4 * logits, logits)
    moved = cross_fitted_temperatures(surer, classes, groups, seed=0, parts=parts)
    assert (moved[own] == found[own]).all()
    assert (moved != found).any()
    assert len(set(found)) == parts
    # one temperature a part, and a patient is in one part
    assert all(len(set(found[np.array(groups) == name])) == 1 for name in set(groups))
    for temperature in set(found):
        part = found == temperature
        assert fit_temperature(logits[~part], classes[~part]) == temperature


def test_as_many_parts_as_patients_leave_one_out():
    logits, classes = drawn(2.0, size=60)
    groups = patients(60, each=20)
    found = cross_fitted_temperatures(logits, classes, groups, seed=3, parts=10)
    for name in ("P0", "P1", "P2"):
        own = np.array(groups) == name
        assert set(found[own]) == {fit_temperature(logits[~own], classes[~own])}


def test_the_dealing_is_even_and_depends_on_the_seed_alone():
    logits, classes = drawn(2.0, size=120)
    groups = patients(120)
    found = [cross_fitted_temperatures(logits, classes, groups, seed) for seed in (0, 0, 1)]
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()
    sizes = np.unique(found[0], return_counts=True)[1]  # 12 patients of 10 slices in 5 parts
    assert sorted(sizes) == [20, 20, 20, 30, 30]
    renamed = [f"P{100 - int(name[1:])}" for name in groups]
    assert len(set(cross_fitted_temperatures(logits, classes, renamed, 0))) == 5


def test_cross_fitting_has_its_bounds():
    logits, classes = drawn(2.0, size=20)
    with pytest.raises(ValueError, match="there is only one"):
        cross_fitted_temperatures(logits, classes, ["P"] * 20, seed=0)
    # the others of P1 are of one class
    with pytest.raises(ValueError, match="at least two classes"):
        cross_fitted_temperatures(np.eye(2)[[0, 0, 1, 0]], [0, 0, 1, 1], ["P0", "P0", "P1", "P1"], seed=0)
