"""By what the training of a teacher is known again."""

from __future__ import annotations

from functools import partial

import pytest
from monai.transforms import Lambdad

from monai_kd.bundle import Teacher
from monai_kd.bundle.fingerprint import fingerprint


def scaled(image, factor=2):
    return image * factor


def made(factor):
    return lambda image: image * factor


def augmented(function) -> str:
    return fingerprint({"fold": 0, "augmentation": [Lambdad("image", function)]})


@pytest.mark.parametrize(
    "value", [{"workers": 2}, {"cache_rate": 0.5}, {"allow_outside": False}, {"device": "cuda:1"}, {"amp": False}]
)
def test_what_changes_no_weight_is_no_difference(value):
    run = {"fold": 0, "workers": 0, "cache_rate": 1.0, "amp": True}
    assert fingerprint({**run, **value}) == fingerprint(run)


def test_a_teacher_of_an_earlier_version_is_known_by_its_precision(tmp_path):
    run = {"fold": 0, "amp": False, "leave_out": [], "dataset_dir": None}
    before = fingerprint(run, by_amp=True)
    assert before != fingerprint(run) == fingerprint({**run, "amp": True}, by_amp=True)
    teacher = Teacher(None, tmp_path, tmp_path, run)
    (tmp_path / f"teacher-{before}").mkdir()
    assert teacher._folder.name == f"teacher-{before}"
    (tmp_path / f"teacher-{fingerprint(run)}").mkdir()
    assert Teacher(None, tmp_path, tmp_path, run)._folder.name == f"teacher-{fingerprint(run)}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda image: image + 1, lambda image: image * 0),
        (lambda image: image + 1, lambda image: image + 2),
        (lambda image, by=1: image + by, lambda image, by=2: image + by),
        (made(2), made(3)),
        (partial(scaled, factor=2), partial(scaled, factor=3)),
        (lambda image: sum(image + n for n in (1, 2)), lambda image: sum(image * n for n in (1, 2))),
        (lambda image: image in {"a", "b"}, lambda image: image in {"a", "c"}),
    ],
)
def test_functions_are_known_by_what_they_do(one, other):
    assert augmented(one) != augmented(other)
    assert augmented(one) == augmented(one)


def test_the_same_function_made_twice_is_the_same():
    assert augmented(made(2)) == augmented(made(2))
    assert augmented(partial(scaled, factor=2)) == augmented(partial(scaled, factor=2))
    assert augmented(scaled) == augmented(scaled)
