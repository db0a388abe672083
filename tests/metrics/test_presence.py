import pytest
import torch

from monai_kd.metrics import PRESENCE_SCORES, presence_score


@pytest.mark.parametrize(
    ("shape", "kind", "expected"),
    [
        ((256, 256), "max", 1.0),  # a map, (H, W)
        ((1, 256, 256), "top_k_mean", 10 / 25),  # 10 of the 25 highest are 1, the others 0
        ((1, 128, 128), "top_k_mean", 1.0),  # 6 are averaged
        ((1, 512, 512), "top_k_mean", 10 / 100),
        ((1, 4, 4), "top_k_mean", 1.0),  # at least one
    ],
)
def test_score_of_ten_sure_pixels(shape, kind, expected):
    probability = torch.zeros(shape)
    probability.view(-1)[:10] = 1
    assert presence_score(probability, kind) == pytest.approx(expected)


@pytest.mark.parametrize("kind", PRESENCE_SCORES)
def test_highest_class_counts_and_scores_do_not_depend_on_places(kind):
    torch.manual_seed(0)
    probability = torch.rand(3, 64, 48)
    expected = presence_score(probability.amax(0), kind)
    assert presence_score(probability, kind) == pytest.approx(expected)
    assert presence_score(probability.flip(1, 2), kind) == pytest.approx(expected)
    assert 0 <= expected <= 1


@pytest.mark.parametrize(
    ("probability", "kind", "match"),
    [
        (torch.zeros(1, 4, 4), "mean", "one of max, top_k_mean"),
        (torch.zeros(4), "max", r"\(H, W\) or \(C, H, W\)"),
        (torch.zeros(0, 4), "max", "not empty"),
        (torch.full((4, 4), 1.5), "max", "between 0 and 1"),
        (torch.full((4, 4), float("nan")), "max", "between 0 and 1"),
    ],
)
def test_other_maps_are_refused(probability, kind, match):
    with pytest.raises(ValueError, match=match):
        presence_score(probability, kind)
