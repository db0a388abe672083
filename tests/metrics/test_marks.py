import pytest
import torch

from monai_kd.metrics import SliceMarks, slice_marks


def blocks(*boxes: tuple[int, int, int, int], size: int = 20) -> torch.Tensor:
    mask = torch.zeros(1, size, size)
    for top, left, bottom, right in boxes:
        mask[0, top:bottom, left:right] = 1
    return mask


CASES = [
    # nothing predicted, two lesions
    (blocks(), blocks((0, 0, 2, 2), (10, 10, 12, 12)), SliceMarks((0.0, 0.0), (), 0)),
    # nothing there, two false marks of 4 and of 6 pixels
    (blocks((0, 0, 2, 2), (10, 10, 12, 13)), blocks(), SliceMarks((), (0.5, 0.5), 10)),
    # one mark touches both lesions by a few pixels
    (blocks((0, 0, 12, 12)), blocks((0, 0, 2, 2), (10, 10, 14, 14)), SliceMarks((0.5, 0.5), (), 0)),
    # two marks on one lesion, and a false one
    (blocks((0, 0, 2, 2), (5, 5, 7, 7), (15, 15, 16, 16)), blocks((0, 0, 8, 8)), SliceMarks((0.5,), (0.5,), 1)),
    (blocks(), blocks(), SliceMarks((), (), 0)),
]


@pytest.mark.parametrize(("prediction", "truth", "expected"), CASES)
def test_counted_by_hand(prediction, truth, expected):
    assert slice_marks(0.5 * prediction, prediction, truth) == expected


def test_score_is_the_highest_probability_of_the_best_mark_and_over_the_classes():
    prediction, truth = blocks((0, 0, 2, 2), (5, 5, 7, 7)), blocks((0, 0, 8, 8))
    probability = torch.cat([0.5 * prediction, torch.zeros_like(prediction)])
    probability[1, 6, 6] = 0.875
    two = torch.cat([prediction, torch.zeros_like(prediction)])
    assert slice_marks(probability, two, truth) == SliceMarks((0.875,), (), 0)
