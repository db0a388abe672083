"""Similarities of images against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_kd.losses import DistillationLoss, FeatureLoss, LogitKL, SimilarityLoss, WithTeacher


def features(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(student: np.ndarray, teacher: np.ndarray) -> float:
    """Pair of images by pair of images."""
    found = 0.0
    count = len(student)
    for one in range(count):
        rows = [
            np.array([float((side[one] * side[other]).sum()) for other in range(count)]) for side in (student, teacher)
        ]
        unit = [row / np.sqrt((row**2).sum()) for row in rows]
        found += ((unit[0] - unit[1]) ** 2).sum()
    return found / count**2


@pytest.mark.parametrize("shapes", [((5, 4), (5, 9)), ((3, 2, 6, 6), (3, 12)), ((4, 7, 16), (4, 3, 2, 2, 2))], ids=str)
def test_equals_numpy(shapes):
    student, teacher = features(0, *shapes[0]), features(1, *shapes[1])
    found = float(SimilarityLoss()({"e": student}, {"e": teacher}))
    assert found == pytest.approx(reference(student.numpy(), teacher.numpy()), rel=1e-4)


def test_zero_for_equal_and_for_scaled_and_turned_features():
    student = features(0, 6, 5)
    turned = student @ torch.linalg.qr(features(1, 5, 5))[0]
    for teacher in (student, 7 * student, turned):
        assert float(SimilarityLoss()({"e": student}, {"e": teacher})) == pytest.approx(0, abs=1e-12)


def test_layers_are_summed_and_one_image_has_no_pairs():
    one, two = {"a": features(0, 4, 3)}, {"b": features(1, 4, 3)}
    both = [float(SimilarityLoss()(each, {name: features(2, 4, 5) for name in each})) for each in (one, two)]
    together = SimilarityLoss()(one | two, {"b": features(2, 4, 5), "a": features(2, 4, 5)})
    assert float(together) == pytest.approx(sum(both))
    assert float(SimilarityLoss()({"e": features(0, 1, 3)}, {"e": features(1, 1, 3)})) == pytest.approx(0)


def test_gradients_reach_the_student_and_half_precision_is_summed_in_full():
    student = (100 * features(0, 4, 300).to(torch.float16)).requires_grad_()
    loss = DistillationLoss({"sp": SimilarityLoss()}, {"sp": 1.0})
    total = loss({"student_features": {"e": student}, "teacher_features": {"e": features(1, 4, 8).float()}}).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0


def test_names_and_numbers_that_do_not_fit():
    for names, sizes, message in (
        ("ab", (3, 3), "tapped under the same names"),
        ("aa", (3, 4), "layer 'a': 3 images of the student and 4 of the teacher"),
    ):
        sides = [{name: features(0, size, 2)} for name, size in zip(names, sizes, strict=True)]
        with pytest.raises(ValueError, match=message):
            SimilarityLoss()(*sides)


def test_terms_of_both_kinds_and_several_teachers():
    """Features as tapped beside the projected ones, each of its own teacher."""
    terms = {"sp": lambda: WithTeacher(SimilarityLoss(), "two"), "feature": lambda: WithTeacher(FeatureLoss(), "one")}
    loss = DistillationLoss.from_recipe(terms, {"sp": 1.0, "feature": 1.0})
    assert (loss.needs_teacher, loss.needs_features) == (True, True)
    student, one, two = ({"e": features(seed, 3, 2, 4, 4)} for seed in range(3))
    outputs = {"student_features": student, "teacher_features.one": one, "teacher_features.two": two}
    terms = loss(outputs).terms
    assert float(terms["sp"]) == pytest.approx(float(SimilarityLoss()(student, two)), rel=1e-5)
    assert float(terms["feature"]) == pytest.approx(float(FeatureLoss()(student, one)), rel=1e-5)


@pytest.mark.parametrize(("term", "made"), [(SimilarityLoss, False), (FeatureLoss, True), (LogitKL, False)])
def test_projections_are_made_only_where_features_are_projected(term, made):
    asked = []
    DistillationLoss.from_recipe({"t": term}, {"t": 1.0}, lambda: asked.append(1) or {})
    assert bool(asked) is made
