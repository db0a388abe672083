"""Relations of images against numpy, pair by pair and triple by triple."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from monai_kd.losses import DistillationLoss, RelationLoss


def features(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def huber(x: float) -> float:
    return x**2 / 2 if abs(x) <= 1 else abs(x) - 0.5


def relations(sides: np.ndarray) -> tuple[dict, dict]:
    flat = sides.reshape(len(sides), -1)
    pairs = list(permutations(range(len(flat)), 2))
    lengths = {(i, j): float(np.linalg.norm(flat[i] - flat[j])) for i, j in pairs}
    mean = np.mean(list(lengths.values()))
    angles = {
        (i, j, k): float((flat[i] - flat[j]) @ (flat[k] - flat[j])) / lengths[i, j] / lengths[k, j]
        for i, j, k in permutations(range(len(flat)), 3)
    }
    return {pair: length / mean for pair, length in lengths.items()}, angles


def reference(student: np.ndarray, teacher: np.ndarray, distance: float, angle: float) -> float:
    both = zip(relations(student), relations(teacher), strict=True)
    distances, angles = (np.mean([huber(own[key] - its[key]) for key in own]) for own, its in both)
    return distance * distances + angle * angles


@pytest.mark.parametrize("shapes", [((5, 4), (5, 9)), ((3, 2, 6, 6), (3, 12)), ((4, 7, 16), (4, 3, 2, 2, 2))], ids=str)
@pytest.mark.parametrize("weights", [(1.0, 2.0), (25.0, 0.0), (0.0, 1.0)])
def test_equals_numpy(shapes, weights):
    student, teacher = features(0, *shapes[0]), 3 * features(1, *shapes[1]) ** 3
    found = float(RelationLoss(*weights)({"e": student}, {"e": teacher}))
    assert found == pytest.approx(reference(student.numpy(), teacher.numpy(), *weights), rel=1e-9)


def test_zero_for_moved_scaled_and_turned_features():
    student = features(0, 6, 5)
    turned = student @ torch.linalg.qr(features(1, 5, 5))[0]
    for teacher in (student, 7 * student, student + 100, turned):
        assert float(RelationLoss()({"e": student}, {"e": teacher})) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("images", [1, 2])
def test_one_image_has_no_pairs_and_two_no_triples(images):
    sides = [{"e": features(seed, images, 3)} for seed in (0, 1)]
    assert float(RelationLoss()(*sides)) == pytest.approx(0, abs=1e-12)  # of two, the only distance is the mean


def test_layers_are_summed():
    sides = [{name: features(number + 2 * side, 4, 3) for number, name in enumerate("ab")} for side in (0, 1)]
    alone = sum(float(RelationLoss()(*({name: side[name]} for side in sides))) for name in "ab")
    assert float(RelationLoss()(*sides)) == pytest.approx(alone)


def test_gradients_are_those_of_differences():
    student, teacher = features(0, 4, 3).requires_grad_(), features(1, 4, 6)
    assert torch.autograd.gradcheck(lambda given: RelationLoss()({"e": given}, {"e": teacher}), student)


def test_images_of_the_same_features_and_half_precision_stay_finite():
    student = (100 * features(0, 4, 300)).to(torch.float16)
    student[1] = student[0]
    student.requires_grad_()
    loss = DistillationLoss({"rkd": RelationLoss()}, {"rkd": 1.0})
    teacher = torch.zeros(4, 8)
    total = loss({"student_features": {"e": student}, "teacher_features": {"e": teacher}}).total
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("weights", [(-1, 1), (0, 0), (float("nan"), 1)])
def test_weights_that_can_not_be(weights):
    with pytest.raises(ValueError, match="distance and angle must be numbers of 0 or more, not both 0"):
        RelationLoss(*weights)


def test_numbers_of_images_that_do_not_fit():
    with pytest.raises(ValueError, match="layer 'a': 3 images of the student and 4 of the teacher"):
        RelationLoss()({"a": features(0, 3, 2)}, {"a": features(0, 4, 2)})
