"""Which masks count when student and teacher are compared."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="MONAI Label is not installed: see docs/label.md and .ci/label")

from monai_kd.label.select import Disagreement
from monai_kd.metrics import slice_disagreement

PLANES = np.random.default_rng(0).random((4, 6, 5))


def served(names: list[str], channels: list[int]) -> SimpleNamespace:
    """A bundle that always gives these planes of probabilities."""
    return SimpleNamespace(
        stamp="1",
        read=lambda image, device: image,
        predict=lambda source, device: {"probability": PLANES[channels]},
        predictor=lambda device: SimpleNamespace(mask_names=names),
    )


def compared(student: SimpleNamespace, teacher: SimpleNamespace) -> float:
    store = SimpleNamespace(get_image_uri=lambda image: image, update_image_info=lambda image, info: None)
    return Disagreement(student, teacher).compute(store, "image")


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (served(["b"], [1]), served(["a", "b", "c"], [0, 2, 3])),
        (served(["b"], [1]), served(["a", "b", "c"], [0, 3, 2, 0])),  # with a background
        (served(["x"], [1]), served(["y"], [2])),
    ],
    ids=["overlapping", "exclusive", "single masks"],
)
def test_a_teacher_of_more_masks_is_compared_by_those_of_the_student(student, teacher):
    assert compared(student, teacher) == pytest.approx(slice_disagreement(PLANES[1], PLANES[2]))


def test_of_several_the_highest_counts():
    student, teacher = served(["a", "b"], [0, 1]), served(["b", "c", "a"], [2, 1, 3])
    expected = slice_disagreement(PLANES[:2].max(axis=0), PLANES[[2, 3]].max(axis=0))
    assert compared(student, teacher) == pytest.approx(expected)
