import numpy as np
import pytest
import torch
from monai.metrics import compute_roc_auc

from monai_kd.metrics import choose_operating_point, roc_curve


def drawn(seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = np.arange(200) < 80
    scores = np.clip(random.normal(0.4 + 0.2 * truth, 0.2), 0, 1)
    return (scores.round(1) if ties else scores), truth


@pytest.mark.parametrize("ties", [False, True])
def test_area_below_the_curve_is_that_of_monai(ties):
    scores, truth = drawn(0, ties)
    false, true, _ = roc_curve(scores, truth)
    expected = compute_roc_auc(torch.as_tensor(scores), torch.as_tensor(truth).int())
    assert np.trapezoid(true, false) == pytest.approx(expected)


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_threshold_is_the_lowest_with_the_specificity(specificity, ties):
    scores, truth = drawn(1, ties)
    scores = 0.9 * scores
    point = choose_operating_point(scores, truth, specificity, "max", "drawn numbers")
    marked = scores >= point["threshold"]
    assert point["specificity"] == pytest.approx((~marked[~truth]).mean())
    assert point["specificity"] >= specificity - 1e-12
    assert point["sensitivity"] == pytest.approx(marked[truth].mean())
    # One more slice without a tumour would be too many; more slices with one would be found only at that price.
    lower = max((score for score in scores if score < point["threshold"]), default=None)
    if lower is not None:
        assert (scores[~truth] < lower).mean() < specificity
    assert (point["score"], point["measured_on"]) == ("max", "drawn numbers")
    assert 0 <= point["threshold"] <= 1


def test_slices_without_a_tumour_are_enough():
    scores, truth = drawn(1)
    point = choose_operating_point(scores[~truth], truth[~truth], 0.9, "max", "drawn numbers")
    marked = scores >= point["threshold"]
    assert point["specificity"] == pytest.approx((~marked[~truth]).mean())
    assert point["sensitivity"] is None
    # With the others, the threshold lies between two of their scores, and has the same specificity.
    assert choose_operating_point(scores, truth, 0.9, "max", "")["specificity"] == point["specificity"]
    with pytest.raises(ValueError, match="a curve needs slices with a tumour and slices without one"):
        roc_curve(scores[~truth], truth[~truth])


def test_five_of_a_hundred_are_five_percent():
    scores = np.concatenate([np.linspace(0, 0.99, 100), [1.0]])
    point = choose_operating_point(scores, np.arange(101) == 100, 0.95, "max", "")
    assert point["specificity"] == pytest.approx(0.95)


@pytest.mark.parametrize(
    ("scores", "truth", "specificity", "match"),
    [
        ([0.5, 0.6], [True, True], 0.9, "needs slices without a tumour"),
        ([0.5], [True, False], 0.9, r"must be \(N,\)"),
        ([0.5, 0.6], [True, False], 1.1, "between 0 and 1"),
        ([1.0, 1.0], [True, False], 0.9, "too many slices"),
    ],
)
def test_refused(scores, truth, specificity, match):
    with pytest.raises(ValueError, match=match):
        choose_operating_point(scores, truth, specificity, "max", "")
